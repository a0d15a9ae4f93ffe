"""What a runtime does: emulation, onnxruntime, replay of counterexamples."""
