(** Rounding to nearest in a format with gradual underflow and no largest number, as Flocq has it:
    what the sums of [Sums.v] take from it. That nothing overflows is an obligation of its own. *)

From Coq Require Import Reals Psatz.
From Flocq Require Import Core Relative Plus_error.
Open Scope R_scope.

Section Rounding.

Variables emin prec : Z.
Context {prec_gt_0_ : Prec_gt_0 prec}.
Variable choice : Z -> bool.

Local Notation fexp := (FLT_exp emin prec).
Definition format (x : R) := generic_format radix2 fexp x.
Definition rnd (x : R) := round radix2 fexp (Znearest choice) x.

(** The unit roundoff, the relative error v = u/(1 + u) of an operation, and what underflow of a
    product or a fused operation adds: half the smallest subnormal number. *)
Definition u := u_ro radix2 prec.
Definition v := u / (1 + u).
Definition eta := / 2 * bpow radix2 emin.

Lemma u_bounds : 0 <= u <= 1.
Proof.
  unfold u. pose proof (u_ro_pos radix2 prec). pose proof (u_ro_lt_1 radix2 prec prec_gt_0_). lra.
Qed.

Lemma v_bounds : 0 <= v <= 1 /\ v <= u.
Proof.
  pose proof u_bounds. unfold v.
  pose proof (u_rod1pu_ro_pos radix2 prec). pose proof (u_rod1pu_ro_le_u_ro radix2 prec).
  fold u in *. lra.
Qed.

Lemma eta_nonneg : 0 <= eta.
Proof. unfold eta. pose proof (bpow_ge_0 radix2 emin). lra. Qed.

Lemma format_rnd : forall x, format (rnd x).
Proof. intros x. apply generic_format_round; auto with typeclass_instances. Qed.

Lemma format_0 : format 0.
Proof. apply generic_format_0. Qed.

(** Format lemma [half-ulp]: |z| <= M gives |fl(z) - z| <= ulp(M)/2. *)
Lemma half_ulp : forall z M, Rabs z <= M -> Rabs (rnd z - z) <= / 2 * ulp radix2 fexp M.
Proof.
  intros z M H.
  apply Rle_trans with (/ 2 * ulp radix2 fexp z).
  - apply error_le_half_ulp; auto with typeclass_instances.
  - apply Rmult_le_compat_l; [lra|].
    apply ulp_le; auto with typeclass_instances.
    rewrite (Rabs_pos_eq M); [assumption|].
    apply Rle_trans with (2 := H). apply Rabs_pos.
Qed.

(** Format lemma [rounding-no-underflow-sum]: the relative error of a sum of two numbers of the
    format, subnormal numbers included. *)
Lemma sum_relative :
  forall a b, format a -> format b -> Rabs (rnd (a + b) - (a + b)) <= v * Rabs (a + b).
Proof.
  intros a b Fa Fb.
  destruct (FLT_plus_error_N_ex radix2 emin prec choice a b Fa Fb) as (eps & H & E).
  unfold rnd. rewrite E.
  replace ((a + b) * (1 + eps) - (a + b)) with (eps * (a + b)) by ring.
  rewrite Rabs_mult. apply Rmult_le_compat_r; [apply Rabs_pos|exact H].
Qed.

(** Format lemma [sum-error-below-operands]: to nearest, what rounding a sum loses is at most the
    operand that was added to a number of the format. *)
Lemma error_below_operand : forall x b, format b -> Rabs (rnd (x + b) - (x + b)) <= Rabs x.
Proof.
  intros x b Fb.
  destruct (round_N_pt radix2 fexp choice (x + b)) as (_ & H).
  specialize (H b Fb).
  replace (b - (x + b)) with (- x) in H by ring.
  rewrite Rabs_Ropp in H. exact H.
Qed.

(** Format lemmas [rounding-product] and [rounding-fma]: of any number, relative or by what
    underflows, never both. *)
Lemma rounding_model_split :
  forall z, exists eps et,
  Rabs eps <= v /\ Rabs et <= eta /\ eps * et = 0 /\ rnd z = z * (1 + eps) + et.
Proof. intros z. exact (relative_error_N_FLT'_ex radix2 emin prec prec_gt_0_ choice z). Qed.

Lemma rounding_model : forall z, Rabs (rnd z - z) <= v * Rabs z + eta.
Proof.
  intros z. destruct (rounding_model_split z) as (eps & et & He & Ht & _ & E). rewrite E.
  replace (z * (1 + eps) + et - z) with (eps * z + et) by ring.
  eapply Rle_trans; [apply Rabs_triang|]. rewrite Rabs_mult.
  apply Rplus_le_compat; [|exact Ht].
  apply Rmult_le_compat_r; [apply Rabs_pos|exact He].
Qed.

End Rounding.
