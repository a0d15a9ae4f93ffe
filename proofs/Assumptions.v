(** What the theorems rest on, all together: [check.py] reads what is printed here and holds it
    against a list. *)

From Refine Require Import Rounding Sums Contracts.

Definition theorems :=
  (sum_any_order_within,
   sum_any_order,
   sum_any_order_relative,
   sum_closed_form,
   known_schedule,
   any_order_linear,
   dot_product_any_order,
   jeannerod_rump_sum,
   jeannerod_rump_sum_u,
   jeannerod_rump_dot,
   sequential_sum,
   fused_dot_product,
   rounding_flushed_before,
   rounding_flushed_after,
   reading_flushed).

Print Assumptions theorems.
