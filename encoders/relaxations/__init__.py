"""Linear relaxations: affine forms, hinges, steps, products of computed tensors."""
