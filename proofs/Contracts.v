(** The contracts that [Sums.v] speaks of, with nothing left open: gradual underflow, flushed
    results, flushed operands; sums term by term and dot products as lists. *)

From Coq Require Import Reals Psatz List.
From Flocq Require Import Core.
From Refine Require Import Rounding Sums.
Open Scope R_scope.

Section Contracts.

Variables emin prec : Z.
Context {prec_gt_0_ : Prec_gt_0 prec}.
Variable choice : Z -> bool.

Local Notation fexp := (FLT_exp emin prec).
Local Notation format := (format emin prec).
Local Notation rnd := (rnd emin prec choice).
Local Notation u := (u prec).
Local Notation v := (v prec).
Local Notation eta := (eta emin).

(** The smallest normal number. *)
Definition lambda := bpow radix2 (emin + prec - 1).

Definition flush (x : R) : R := if Rlt_dec (Rabs x) lambda then 0 else x.

Lemma lambda_nonneg : 0 <= lambda.
Proof. apply bpow_ge_0. Qed.

Lemma format_lambda : format lambda.
Proof.
  apply generic_format_bpow. unfold FLT_exp.
  pose proof (prec_gt_0 prec). lia.
Qed.

(** Operands: as they are, or subnormal ones as 0. *)
Lemma reading_as_it_is : forall a, a = a \/ (a = 0 /\ Rabs a <= 0).
Proof. left. reflexivity. Qed.

Lemma reading_flushed : forall a, flush a = a \/ (flush a = 0 /\ Rabs a <= lambda).
Proof. intros a. unfold flush. destruct (Rlt_dec (Rabs a) lambda); [right|left]; lra. Qed.

(** Results: rounded; rounded and then flushed; or flushed where the exact result is tiny. *)
Lemma rounding_gradual : forall z, rnd z = rnd z \/ (rnd z = 0 /\ Rabs z <= 0).
Proof. left. reflexivity. Qed.

Lemma rounding_flushed_after :
  forall z, flush (rnd z) = rnd z \/ (flush (rnd z) = 0 /\ Rabs z <= lambda).
Proof.
  intros z. unfold flush. destruct (Rlt_dec (Rabs (rnd z)) lambda) as [H|H]; [right|left; lra].
  split; [reflexivity|].
  destruct (Rle_or_lt (Rabs z) lambda) as [H'|H']; [exact H'|exfalso].
  apply (Rlt_irrefl lambda). apply Rle_lt_trans with (2 := H).
  apply abs_round_ge_generic; auto with typeclass_instances; [apply format_lambda|lra].
Qed.

Definition flushed_before (z : R) : R := if Rlt_dec (Rabs z) lambda then 0 else rnd z.

Lemma rounding_flushed_before :
  forall z, flushed_before z = rnd z \/ (flushed_before z = 0 /\ Rabs z <= lambda).
Proof.
  intros z. unfold flushed_before. destruct (Rlt_dec (Rabs z) lambda); [right|left]; lra.
Qed.

(** ** The theorem of Jeannerod & Rump: n numbers of the format, in any order, for any n

    [additions t] is n - 1. *)

Local Notation value := (computed (fun a => a) rnd).

Fixpoint of_numbers (t : tree) : Prop :=
  match t with
  | Leaf x y => y = x /\ format x
  | Add l r => of_numbers l /\ of_numbers r
  | Fused _ _ _ => False
  end.

Lemma of_numbers_parts :
  forall t, of_numbers t -> unfused t /\ terms_of_format emin prec t /\ term_errors t = 0.
Proof.
  induction t as [x y|l IHl w IHw|x y t IHt]; simpl.
  - intros (-> & F). repeat split; trivial. replace (x - x) with 0 by ring. apply Rabs_R0.
  - intros (Hl & Hw). destruct (IHl Hl) as (? & ? & El). destruct (IHw Hw) as (? & ? & Ew).
    rewrite El, Ew. repeat split; trivial. ring.
  - intros [].
Qed.

Theorem jeannerod_rump_sum :
  forall t, of_numbers t ->
  Rabs (value t - exact t) <= additions t * v * magnitudes t.
Proof.
  intros t H. destruct (of_numbers_parts t H) as (U & F & E).
  pose proof (any_order_linear emin prec choice (fun a => a) 0 reading_as_it_is (Rle_refl 0)
    rnd 0 rounding_gradual 0 t F) as L.
  cbv zeta in L. rewrite E in L.
  assert (Rmax 0 0 + 2 * 0 <= 0) as Z by (rewrite Rmax_left; lra).
  specialize (L Z (or_introl U)). lra.
Qed.

(** The same with the unit roundoff. *)
Theorem jeannerod_rump_sum_u :
  forall t, of_numbers t ->
  Rabs (value t - exact t) <= additions t * u * magnitudes t.
Proof.
  intros t H. apply Rle_trans with (1 := jeannerod_rump_sum t H).
  apply Rmult_le_compat_r.
  - apply Rle_trans with (2 := exact_below_magnitudes t). apply Rabs_pos.
  - apply Rmult_le_compat_l; [apply additions_nonneg|]. destruct (v_bounds prec) as (_ & H1).
    exact H1.
Qed.

(** Dot products of n terms, products rounded, in any order: n * v + (n - 1) * v^2 of the
    magnitudes, and what underflows. *)
Theorem jeannerod_rump_dot :
  forall t, unfused t -> of_products rnd t ->
  let m := additions t in
  let n := m + 1 in
  Rabs (value t - exact t) <=
    (n * v + m * (v * v)) * magnitudes t + n * (1 + m * v) * eta.
Proof.
  intros t U P. cbv zeta.
  pose proof (format_products emin prec choice rnd 0 rounding_gradual t P) as F.
  pose proof (any_order_linear emin prec choice (fun a => a) 0 reading_as_it_is (Rle_refl 0)
    rnd 0 rounding_gradual 0 t F) as L.
  pose proof (product_errors emin prec choice rnd 0 rounding_gradual t P) as HP.
  cbv zeta in L.
  assert (Rmax 0 0 + 2 * 0 <= 0) as Z by (rewrite Rmax_left; lra).
  specialize (L Z (or_introl U)).
  pose proof (eta_nonneg emin) as He. rewrite Rmax_left in HP by exact He.
  pose proof (v_bounds prec) as ((Hv0 & _) & _). pose proof (additions_nonneg t) as Hm.
  set (m := additions t) in *.
  assert (0 <= m * v) as Hmv by (apply Rmult_le_pos; assumption).
  pose proof (Rmult_le_compat_l _ _ _ Hmv HP) as HQ. lra.
Qed.

(** ** Lists: a sum term by term, and a dot product as a chain of fused multiply-adds, are trees *)

Definition chain (t : tree) (terms : list (R * R)) : tree :=
  fold_left (fun s p => Add s (Leaf (fst p) (snd p))) terms t.

Lemma computed_chain :
  forall read fl terms t,
  computed read fl (chain t terms) =
  fold_left (fun s p => fl (read s + read (snd p))) terms (computed read fl t).
Proof.
  intros read fl terms. induction terms as [|p terms IH]; intros t; [reflexivity|].
  simpl. unfold chain in *. rewrite IH. reflexivity.
Qed.

Lemma exact_chain :
  forall terms t, exact (chain t terms) = fold_left (fun s p => s + fst p) terms (exact t).
Proof.
  intros terms. induction terms as [|p terms IH]; intros t; [reflexivity|].
  simpl. unfold chain in *. rewrite IH. reflexivity.
Qed.

Lemma additions_chain :
  forall terms t, additions (chain t terms) = additions t + INR (length terms).
Proof.
  intros terms. induction terms as [|p terms IH]; intros t; [simpl; ring|].
  change (chain t (p :: terms)) with (chain (Add t (Leaf (fst p) (snd p))) terms).
  rewrite IH. simpl additions. change (length (p :: terms)) with (S (length terms)).
  rewrite S_INR. ring.
Qed.

Definition fused_chain (t : tree) (products : list R) : tree :=
  fold_left (fun s x => Fused x x s) products t.

Lemma computed_fused_chain :
  forall read fl products t,
  computed read fl (fused_chain t products) =
  fold_left (fun s x => fl (x + read s)) products (computed read fl t).
Proof.
  intros read fl products. induction products as [|x products IH]; intros t; [reflexivity|].
  simpl. unfold fused_chain in *. rewrite IH. reflexivity.
Qed.

Lemma exact_fused_chain :
  forall products t,
  exact (fused_chain t products) = fold_left (fun s x => x + s) products (exact t).
Proof.
  intros products. induction products as [|x products IH]; intros t; [reflexivity|].
  simpl. unfold fused_chain in *. rewrite IH. reflexivity.
Qed.

Lemma additions_fused_chain :
  forall products t, additions (fused_chain t products) = additions t + INR (length products).
Proof.
  intros products. induction products as [|x products IH]; intros t; [simpl; ring|].
  change (fused_chain t (x :: products)) with (fused_chain (Fused x x t) products).
  rewrite IH. simpl additions. change (length (x :: products)) with (S (length products)).
  rewrite S_INR. ring.
Qed.

Lemma of_numbers_chain :
  forall terms t, of_numbers t -> (forall x, In x terms -> format x) ->
  of_numbers (chain t (map (fun x => (x, x)) terms)).
Proof.
  intros terms. induction terms as [|x terms IH]; intros t Ht F; [exact Ht|].
  simpl. unfold chain in *. apply IH.
  - simpl. repeat split; trivial. apply F. left. reflexivity.
  - intros y Hy. apply F. right. exact Hy.
Qed.

(** Left to right over x :: xs: (n - 1) * u times the sum of magnitudes, for any n. *)
Theorem sequential_sum :
  forall x xs, format x -> (forall y, In y xs -> format y) ->
  Rabs (fold_left (fun s y => rnd (s + y)) xs x - fold_left Rplus xs x) <=
    INR (length xs) * u * fold_left (fun s y => s + Rabs y) xs (Rabs x).
Proof.
  intros x xs Fx F.
  set (terms := map (fun y => (y, y)) xs).
  assert (H : of_numbers (chain (Leaf x x) terms)).
  { apply of_numbers_chain; [simpl; auto|exact F]. }
  pose proof (jeannerod_rump_sum_u _ H) as B.
  rewrite computed_chain, exact_chain, additions_chain in B. simpl in B.
  assert (E1 : forall s, fold_left (fun s p => rnd (s + snd p)) terms s =
                         fold_left (fun s y => rnd (s + y)) xs s).
  { unfold terms. clear. induction xs as [|y ys IH]; intros s; [reflexivity|]. simpl. apply IH. }
  assert (E2 : forall s, fold_left (fun s p => s + fst p) terms s = fold_left Rplus xs s).
  { unfold terms. clear. induction xs as [|y ys IH]; intros s; [reflexivity|]. simpl. apply IH. }
  assert (E3 : forall t, magnitudes (chain t terms) =
                         fold_left (fun s y => s + Rabs y) xs (magnitudes t)).
  { unfold terms. clear. induction xs as [|y ys IH]; intros t; [reflexivity|].
    simpl. unfold chain in *. rewrite IH. reflexivity. }
  rewrite E1, E2, E3 in B. unfold terms in B. rewrite map_length in B. simpl in B.
  replace (0 + INR (length xs)) with (INR (length xs)) in B by ring.
  exact B.
Qed.

(** A dot product as a chain of fused multiply-adds from 0, the exact products given: n additions,
    for any n. *)
Theorem fused_dot_product :
  forall xs,
  let n := INR (length xs) in
  Rabs (fold_left (fun s x => rnd (x + s)) xs 0 - fold_left (fun s x => x + s) xs 0) <=
    n * eta + n * v * (fold_left (fun s x => Rabs x + s) xs 0 + n * eta).
Proof.
  intros xs n.
  assert (F : forall t, terms_of_format emin prec t ->
              terms_of_format emin prec (fused_chain t xs)).
  { clear n. induction xs as [|x ys IH]; intros t H; [exact H|]. simpl. apply IH. exact H. }
  assert (E : forall t, term_errors (fused_chain t xs) = term_errors t).
  { clear n F. induction xs as [|x ys IH]; intros t; [reflexivity|].
    simpl. unfold fused_chain in *. rewrite IH. simpl.
    replace (x - x) with 0 by ring. rewrite Rabs_R0. ring. }
  assert (M : forall t, magnitudes (fused_chain t xs) =
              fold_left (fun s x => Rabs x + s) xs (magnitudes t)).
  { clear n F E. induction xs as [|x ys IH]; intros t; [reflexivity|].
    simpl. unfold fused_chain in *. rewrite IH. reflexivity. }
  set (t := fused_chain (Leaf 0 0) xs).
  assert (Z : Rmax 0 0 + 2 * 0 <= eta).
  { rewrite Rmax_left; [|lra]. pose proof (eta_nonneg emin). lra. }
  assert (Y : Rmax eta 0 + 2 * 0 <= eta).
  { rewrite Rmax_left; [lra|apply eta_nonneg]. }
  pose proof (any_order_linear emin prec choice (fun a => a) 0 reading_as_it_is (Rle_refl 0)
    rnd 0 rounding_gradual eta t (F (Leaf 0 0) (format_0 emin prec)) Z (or_intror Y)) as L.
  cbv zeta in L. unfold t in L.
  rewrite E, M, computed_fused_chain, exact_fused_chain, additions_fused_chain in L. simpl in L.
  replace (0 - 0) with 0 in L by ring. rewrite Rabs_R0 in L.
  fold n in L. replace (0 + n) with n in L by ring. replace (0 + n * eta) with (n * eta) in L by ring.
  exact L.
Qed.

End Contracts.
