(** Sums, dot products and fused multiply-adds in any order: the inductions over the tree of a sum
    whose steps Z3 proves ([refine lemmas --kind schema]). A tree is what a runtime chose to do: any
    shape, every addition rounded to nearest once, with or without fused nodes. *)

From Coq Require Import Reals Psatz List.
From Flocq Require Import Core.
From Refine Require Import Rounding.
Open Scope R_scope.

Section Sums.

Variables emin prec : Z.
Context {prec_gt_0_ : Prec_gt_0 prec}.
Variable choice : Z -> bool.

Local Notation format := (format emin prec).
Local Notation rnd := (rnd emin prec choice).
Local Notation v := (v prec).
Local Notation eta := (eta emin).
Local Notation half_ulp_of M := (/ 2 * ulp radix2 (FLT_exp emin prec) M).

(** How operands of an addition are read: as they are, or some as 0 (subnormal ones); what that
    changes is at most [tiny], which is 0 where operands are read as they are. *)
Variable read : R -> R.
Variable tiny : R.
Hypothesis reading : forall a, read a = a \/ (read a = 0 /\ Rabs a <= tiny).
Hypothesis tiny_nonneg : 0 <= tiny.

(** What an operation gives: the exact result, rounded to nearest; or 0 for one of at most [lam],
    where subnormal results are flushed. *)
Variable fl : R -> R.
Variable lam : R.
Hypothesis rounding : forall z, fl z = rnd z \/ (fl z = 0 /\ Rabs z <= lam).

Lemma reading_error : forall a, Rabs (read a - a) <= tiny.
Proof.
  intros a. destruct (reading a) as [E|[E H]]; rewrite E.
  - replace (a - a) with 0 by ring. rewrite Rabs_R0. exact tiny_nonneg.
  - replace (0 - a) with (- a) by ring. rewrite Rabs_Ropp. exact H.
Qed.

Lemma reading_below : forall a, Rabs (read a) <= Rabs a.
Proof.
  intros a. destruct (reading a) as [E|[E _]]; rewrite E; [apply Rle_refl|].
  rewrite Rabs_R0. apply Rabs_pos.
Qed.

Lemma format_read : forall a, format a -> format (read a).
Proof.
  intros a Fa. destruct (reading a) as [E|[E _]]; rewrite E; [exact Fa|apply format_0].
Qed.

Lemma format_fl : forall z, format (fl z).
Proof.
  intros z. destruct (rounding z) as [E|[E _]]; rewrite E; [|apply format_0].
  apply format_rnd; assumption.
Qed.

(** [rounded-result], [flush]: half an ulp of M, or what is flushed. *)
Lemma fl_half_ulp : forall z M, Rabs z <= M -> Rabs (fl z - z) <= Rmax (half_ulp_of M) lam.
Proof.
  intros z M H. destruct (rounding z) as [E|[E Hl]]; rewrite E.
  - apply Rle_trans with (2 := Rmax_l _ _). apply half_ulp; assumption.
  - apply Rle_trans with (2 := Rmax_r _ _).
    replace (0 - z) with (- z) by ring. rewrite Rabs_Ropp. exact Hl.
Qed.

(** The tree of a sum. A leaf is a term: its exact value, and what was computed or stored for it. A
    fused node adds an exact product to a subtree and rounds once; its second number is the product
    of the factors as they were read. *)
Inductive tree : Type :=
  | Leaf (term computed_term : R)
  | Add (l r : tree)
  | Fused (product read_product : R) (t : tree).

Fixpoint exact (t : tree) : R :=
  match t with
  | Leaf x _ => x
  | Add l r => exact l + exact r
  | Fused x _ t => x + exact t
  end.

Fixpoint computed (t : tree) : R :=
  match t with
  | Leaf _ x => x
  | Add l r => fl (read (computed l) + read (computed r))
  | Fused _ x t => fl (x + read (computed t))
  end.

(** The number of its additions, fused ones among them. *)
Fixpoint additions (t : tree) : R :=
  match t with
  | Leaf _ _ => 0
  | Add l r => additions l + additions r + 1
  | Fused _ _ t => additions t + 1
  end.

(** The total error of its terms. *)
Fixpoint term_errors (t : tree) : R :=
  match t with
  | Leaf x y => Rabs (y - x)
  | Add l r => term_errors l + term_errors r
  | Fused x y t => Rabs (y - x) + term_errors t
  end.

(** The sum of the magnitudes of its exact terms. *)
Fixpoint magnitudes (t : tree) : R :=
  match t with
  | Leaf x _ => Rabs x
  | Add l r => magnitudes l + magnitudes r
  | Fused x _ t => Rabs x + magnitudes t
  end.

(** No partial sum of exact terms exceeds [T]. *)
Fixpoint partial_sums_within (T : R) (t : tree) : Prop :=
  Rabs (exact t) <= T /\
  match t with
  | Leaf _ _ => True
  | Add l r => partial_sums_within T l /\ partial_sums_within T r
  | Fused _ _ t => partial_sums_within T t
  end.

(** [P] holds of every number that is rounded. *)
Fixpoint rounded_are (P : R -> Prop) (t : tree) : Prop :=
  match t with
  | Leaf _ _ => True
  | Add l r =>
      P (read (computed l) + read (computed r)) /\ rounded_are P l /\ rounded_are P r
  | Fused _ x t => P (x + read (computed t)) /\ rounded_are P t
  end.

(** Every term was computed or stored in the format; the product of a fused node need not be. *)
Fixpoint terms_of_format (t : tree) : Prop :=
  match t with
  | Leaf _ x => format x
  | Add l r => terms_of_format l /\ terms_of_format r
  | Fused _ _ t => terms_of_format t
  end.

(** Additions alone. *)
Fixpoint unfused (t : tree) : Prop :=
  match t with
  | Leaf _ _ => True
  | Add l r => unfused l /\ unfused r
  | Fused _ _ _ => False
  end.

Lemma additions_nonneg : forall t, 0 <= additions t.
Proof. induction t; simpl; lra. Qed.

Lemma term_errors_nonneg : forall t, 0 <= term_errors t.
Proof.
  induction t; simpl; [apply Rabs_pos|lra|].
  pose proof (Rabs_pos (read_product - product)). lra.
Qed.

Lemma exact_below_magnitudes : forall t, Rabs (exact t) <= magnitudes t.
Proof.
  induction t; simpl; [apply Rle_refl| |]; (eapply Rle_trans; [apply Rabs_triang|]); lra.
Qed.

Lemma format_computed : forall t, terms_of_format t -> format (computed t).
Proof. intros [x y|l w|x y t]; simpl; [trivial| |]; intros _; apply format_fl. Qed.

Lemma rounded_everywhere : forall (P : R -> Prop), (forall z, P z) -> forall t, rounded_are P t.
Proof. intros P H. induction t; simpl; auto. Qed.

(** ** Any order, by partial sums: [sum-any-order], [fma-node]

    Rounding anything up to T + E errs by at most r, and pi + m * (r + 2 * tiny) <= E. *)

Theorem sum_any_order_within :
  forall T E r t,
  partial_sums_within T t ->
  rounded_are (fun z => Rabs z <= T + E -> Rabs (fl z - z) <= r) t ->
  0 <= r ->
  term_errors t + additions t * (r + 2 * tiny) <= E ->
  Rabs (computed t - exact t) <= term_errors t + additions t * (r + 2 * tiny).
Proof.
  intros T E r t HT HR Hr. pose proof tiny_nonneg as H0.
  assert (Hq : 0 <= r + 2 * tiny) by lra.
  induction t as [x y|l IHl w IHw|x y t IHt]; simpl in *; intros HE.
  - lra.
  - destruct HT as (HT & HTl & HTw). destruct HR as (HR & HRl & HRw).
    pose proof (term_errors_nonneg l). pose proof (term_errors_nonneg w).
    pose proof (Rmult_le_pos _ _ (additions_nonneg l) Hq).
    pose proof (Rmult_le_pos _ _ (additions_nonneg w) Hq).
    specialize (IHl HTl HRl ltac:(lra)). specialize (IHw HTw HRw ltac:(lra)).
    pose proof (reading_error (computed l)) as Rl. pose proof (reading_error (computed w)) as Rw.
    set (z := read (computed l) + read (computed w)) in *.
    assert (Hz : Rabs (z - (exact l + exact w)) <=
      term_errors l + additions l * (r + 2 * tiny) +
      (term_errors w + additions w * (r + 2 * tiny)) + 2 * tiny).
    { replace (z - (exact l + exact w)) with
        ((read (computed l) - computed l) + (computed l - exact l) +
         ((read (computed w) - computed w) + (computed w - exact w))) by (unfold z; ring).
      eapply Rle_trans; [apply Rabs_triang|].
      eapply Rle_trans; [apply Rplus_le_compat; apply Rabs_triang|]. lra. }
    assert (HzE : Rabs z <= T + E).
    { replace z with ((exact l + exact w) + (z - (exact l + exact w))) by ring.
      eapply Rle_trans; [apply Rabs_triang|]. lra. }
    specialize (HR HzE).
    replace (fl z - (exact l + exact w)) with
      ((fl z - z) + (z - (exact l + exact w))) by ring.
    eapply Rle_trans; [apply Rabs_triang|]. lra.
  - destruct HT as (HT & HTt). destruct HR as (HR & HRt).
    pose proof (term_errors_nonneg t). pose proof (Rabs_pos (y - x)).
    pose proof (Rmult_le_pos _ _ (additions_nonneg t) Hq).
    specialize (IHt HTt HRt ltac:(lra)).
    pose proof (reading_error (computed t)) as Rt.
    set (z := y + read (computed t)) in *.
    assert (Hz : Rabs (z - (x + exact t)) <=
      Rabs (y - x) + (term_errors t + additions t * (r + 2 * tiny)) + 2 * tiny).
    { replace (z - (x + exact t)) with
        ((y - x) + ((read (computed t) - computed t) + (computed t - exact t)))
        by (unfold z; ring).
      eapply Rle_trans; [apply Rabs_triang|].
      eapply Rle_trans; [apply Rplus_le_compat_l; apply Rabs_triang|]. lra. }
    assert (HzE : Rabs z <= T + E).
    { replace z with ((x + exact t) + (z - (x + exact t))) by ring.
      eapply Rle_trans; [apply Rabs_triang|]. lra. }
    specialize (HR HzE).
    replace (fl z - (x + exact t)) with ((fl z - z) + (z - (x + exact t))) by ring.
    eapply Rle_trans; [apply Rabs_triang|]. lra.
Qed.

(** With half an ulp of the largest number that is rounded; fused nodes too. *)
Theorem sum_any_order :
  forall T E t,
  partial_sums_within T t ->
  term_errors t + additions t * (Rmax (half_ulp_of (T + E)) lam + 2 * tiny) <= E ->
  Rabs (computed t - exact t) <=
    term_errors t + additions t * (Rmax (half_ulp_of (T + E)) lam + 2 * tiny).
Proof.
  intros T E t HT HE. apply sum_any_order_within with T E; trivial.
  - apply rounded_everywhere. intros z. apply fl_half_ulp.
  - apply Rle_trans with (2 := Rmax_l _ _).
    pose proof (ulp_ge_0 radix2 (FLT_exp emin prec) (T + E)). lra.
Qed.

(** [sum-any-order-relative], [sum-closed-form]: additions alone, of numbers of the format that are
    read and stored as they are. *)
Theorem sum_any_order_relative :
  forall T E t,
  tiny = 0 -> (forall z, fl z = rnd z) -> unfused t -> terms_of_format t ->
  partial_sums_within T t -> 0 <= E ->
  term_errors t + additions t * (v * (T + E)) <= E ->
  Rabs (computed t - exact t) <= term_errors t + additions t * (v * (T + E)).
Proof.
  intros T E t H0 Hf Hu F HT HE0 HE. pose proof (v_bounds prec) as ((Hv0 & _) & _).
  assert (Hr : forall a, read a = a).
  { intros a. pose proof (reading_error a) as H. rewrite H0 in H.
    pose proof (Rabs_pos (read a - a)) as Hp.
    assert (Rabs (read a - a) = 0) as Z by lra.
    destruct (Req_dec (read a - a) 0) as [Z'|Z']; [lra|].
    apply Rabs_no_R0 in Z'. contradiction. }
  assert (HTE : 0 <= T + E).
  { assert (0 <= T); [|lra].
    apply Rle_trans with (1 := Rabs_pos (exact t)). destruct t; simpl in HT; tauto. }
  replace (v * (T + E)) with (v * (T + E) + 2 * tiny) by (rewrite H0; ring).
  apply sum_any_order_within with T E; trivial.
  - clear HT HE. revert Hu F. induction t as [x y|l IHl w IHw|x y t IHt]; simpl; [trivial| |].
    + intros (Ul & Uw) (Fl & Fw). split; [|split; auto].
      intros Hz. rewrite !Hr, Hf in *.
      apply Rle_trans with
        (1 := sum_relative emin prec choice _ _ (format_computed l Fl) (format_computed w Fw)).
      apply Rmult_le_compat_l; assumption.
    + intros [].
  - apply Rmult_le_pos; assumption.
  - rewrite H0. lra.
Qed.

(** The least such E, where there is one. *)
Theorem sum_closed_form :
  forall T t,
  tiny = 0 -> (forall z, fl z = rnd z) -> unfused t -> terms_of_format t ->
  partial_sums_within T t -> additions t * v < 1 ->
  Rabs (computed t - exact t) <=
    (term_errors t + additions t * v * T) / (1 - additions t * v).
Proof.
  intros T t H0 Hf Hu F HT Hm. pose proof (v_bounds prec) as ((Hv0 & _) & _).
  set (E := (term_errors t + additions t * v * T) / (1 - additions t * v)).
  assert (HE : E * (1 - additions t * v) = term_errors t + additions t * v * T)
    by (unfold E; field; lra).
  assert (H0T : 0 <= T).
  { apply Rle_trans with (1 := Rabs_pos (exact t)). destruct t; simpl in HT; tauto. }
  assert (HE0 : 0 <= E).
  { unfold E, Rdiv. apply Rmult_le_pos; [|apply Rlt_le, Rinv_0_lt_compat; lra].
    pose proof (term_errors_nonneg t).
    pose proof (Rmult_le_pos _ _ (Rmult_le_pos _ _ (additions_nonneg t) Hv0) H0T). lra. }
  replace E with (term_errors t + additions t * (v * (T + E))) by lra.
  apply sum_any_order_relative; trivial. lra.
Qed.

(** ** A known schedule: [sequential-step]

    Term by term, or in any tree: each addition errs by at most its own h. *)

Inductive errs_within : tree -> R -> Prop :=
  | errs_leaf : forall x y, errs_within (Leaf x y) (Rabs (y - x))
  | errs_add : forall l w e f h M,
      errs_within l e -> errs_within w f ->
      Rabs (exact l + exact w) <= M ->
      (forall z, Rabs z <= M + e + f + 2 * tiny -> Rabs (fl z - z) <= h) ->
      errs_within (Add l w) (e + f + 2 * tiny + h)
  | errs_fused : forall x y t e h M,
      errs_within t e ->
      Rabs (x + exact t) <= M ->
      (forall z, Rabs z <= M + e + Rabs (y - x) + tiny -> Rabs (fl z - z) <= h) ->
      errs_within (Fused x y t) (e + Rabs (y - x) + tiny + h).

Theorem known_schedule : forall t e, errs_within t e -> Rabs (computed t - exact t) <= e.
Proof.
  intros t e H.
  induction H as [x y|l w e f h M _ IHl _ IHw HM Hh|x y t e h M _ IHt HM Hh]; simpl.
  - apply Rle_refl.
  - pose proof (reading_error (computed l)) as Rl. pose proof (reading_error (computed w)) as Rw.
    set (z := read (computed l) + read (computed w)).
    assert (Hz : Rabs (z - (exact l + exact w)) <= e + f + 2 * tiny).
    { replace (z - (exact l + exact w)) with
        ((read (computed l) - computed l) + (computed l - exact l) +
         ((read (computed w) - computed w) + (computed w - exact w))) by (unfold z; ring).
      eapply Rle_trans; [apply Rabs_triang|].
      eapply Rle_trans; [apply Rplus_le_compat; apply Rabs_triang|]. lra. }
    assert (Hr : Rabs (fl z - z) <= h).
    { apply Hh. replace z with ((exact l + exact w) + (z - (exact l + exact w))) by ring.
      eapply Rle_trans; [apply Rabs_triang|]. lra. }
    replace (fl z - (exact l + exact w)) with
      ((fl z - z) + (z - (exact l + exact w))) by ring.
    eapply Rle_trans; [apply Rabs_triang|]. lra.
  - pose proof (reading_error (computed t)) as Rt.
    set (z := y + read (computed t)).
    assert (Hz : Rabs (z - (x + exact t)) <= e + Rabs (y - x) + tiny).
    { replace (z - (x + exact t)) with
        ((y - x) + ((read (computed t) - computed t) + (computed t - exact t)))
        by (unfold z; ring).
      eapply Rle_trans; [apply Rabs_triang|].
      eapply Rle_trans; [apply Rplus_le_compat_l; apply Rabs_triang|]. lra. }
    assert (Hr : Rabs (fl z - z) <= h).
    { apply Hh. replace z with ((x + exact t) + (z - (x + exact t))) by ring.
      eapply Rle_trans; [apply Rabs_triang|]. lra. }
    replace (fl z - (x + exact t)) with ((fl z - z) + (z - (x + exact t))) by ring.
    eapply Rle_trans; [apply Rabs_triang|]. lra.
Qed.

(** ** Any order, for any number of terms: [jeannerod-rump-rounding], [jeannerod-rump-bound],
    [jeannerod-rump-step], [any-order-linear-node], [any-order-linear-fused], [any-order-linear]

    No m * v < 1 is asked for. Rump 2012; Jeannerod & Rump 2013. *)

(** [jeannerod-rump-bound]: where one side is negligible, rounding loses no more than that side. *)
Lemma cross_terms :
  forall d S Q m n w,
  0 <= w <= 1 -> 0 <= m -> 0 <= n -> 0 <= S -> 0 <= Q ->
  d <= S + m * w * S -> d <= Q + n * w * Q ->
  d <= w * (S + Q + m * w * S + n * w * Q) ->
  d <= w * (S + Q) + m * w * Q + n * w * S.
Proof.
  intros d S Q m n w Hw Hm Hn HS HQ H1 H2 H3.
  assert (Hmw : 0 <= m * w) by nra. assert (Hnw : 0 <= n * w) by nra.
  assert (HwS : w * S <= S) by nra. assert (HwQ : w * Q <= Q) by nra.
  destruct (Rle_or_lt Q (w * S)) as [C|C].
  - pose proof (Rmult_le_compat_l (n * w) Q S Hnw ltac:(lra)).
    pose proof (Rmult_le_pos _ _ Hmw HQ). nra.
  - destruct (Rle_or_lt S (w * Q)) as [C'|C'].
    + pose proof (Rmult_le_compat_l (m * w) S Q Hmw ltac:(lra)).
      pose proof (Rmult_le_pos _ _ Hnw HS). nra.
    + pose proof (Rmult_le_compat_l (m * w) (w * S) Q Hmw ltac:(lra)).
      pose proof (Rmult_le_compat_l (n * w) (w * Q) S Hnw ltac:(lra)). nra.
Qed.

(** [any-order-linear-fused]: of an exact product |x| <= X nothing but |D| <= X is known. *)
Lemma cross_terms_fused :
  forall d X Q n w,
  0 <= w <= 1 -> 0 <= n -> 0 <= X -> 0 <= Q ->
  d <= X -> d <= w * (X + Q + n * w * Q) ->
  d <= w * (X + Q) + n * w * X.
Proof.
  intros d X Q n w Hw Hn HX HQ H1 H2.
  assert (Hnw : 0 <= n * w) by nra.
  pose proof (Rmult_le_pos _ _ Hnw HX).
  destruct (Rle_or_lt X (w * Q)) as [C|C].
  - nra.
  - pose proof (Rmult_le_compat_l (n * w) (w * Q) X Hnw ltac:(lra)). nra.
Qed.

(** What a node adds to the exact sum splits into D, below both operands and v times the sum, and a
    rest of at most [lam], or [eta] too where the product is not rounded by itself. *)
Lemma node_of_sum :
  forall a b, format a -> format b ->
  exists D rho, fl (a + b) = a + b + D + rho /\
    Rabs D <= Rabs a /\ Rabs D <= Rabs b /\ Rabs D <= v * Rabs (a + b) /\ Rabs rho <= Rmax 0 lam.
Proof.
  intros a b Fa Fb. pose proof (v_bounds prec) as Hv. destruct (rounding (a + b)) as [E|[E H]].
  - exists (rnd (a + b) - (a + b)), 0. rewrite E. repeat split.
    + ring.
    + apply error_below_operand; assumption.
    + replace (a + b) with (b + a) by ring. apply error_below_operand; assumption.
    + apply sum_relative; assumption.
    + rewrite Rabs_R0. apply Rmax_l.
  - exists 0, (- (a + b)). rewrite E, Rabs_R0, Rabs_Ropp. repeat split.
    + ring.
    + apply Rabs_pos.
    + apply Rabs_pos.
    + apply Rmult_le_pos; [lra|apply Rabs_pos].
    + apply Rle_trans with (1 := H). apply Rmax_r.
Qed.

Lemma node_of_product :
  forall x b, format b ->
  exists D rho, fl (x + b) = x + b + D + rho /\
    Rabs D <= Rabs x /\ Rabs D <= v * Rabs (x + b) /\ Rabs rho <= Rmax eta lam.
Proof.
  intros x b Fb. pose proof (v_bounds prec) as Hv. destruct (rounding (x + b)) as [E|[E H]].
  - destruct (rounding_model_split emin prec choice (x + b)) as (eps & et & He & Ht & Z & M).
    destruct (Rmult_integral _ _ Z) as [Z'|Z'].
    + exists 0, et. rewrite E, M, Z', Rabs_R0. repeat split.
      * ring.
      * apply Rabs_pos.
      * apply Rmult_le_pos; [lra|apply Rabs_pos].
      * apply Rle_trans with (1 := Ht). apply Rmax_l.
    + exists (rnd (x + b) - (x + b)), 0. rewrite E. repeat split.
      * ring.
      * apply error_below_operand; assumption.
      * rewrite M, Z'. replace ((x + b) * (1 + eps) + 0 - (x + b)) with (eps * (x + b)) by ring.
        rewrite Rabs_mult. apply Rmult_le_compat_r; [apply Rabs_pos|exact He].
      * rewrite Rabs_R0. apply Rle_trans with (2 := Rmax_l _ _). apply eta_nonneg.
  - exists 0, (- (x + b)). rewrite E, Rabs_R0, Rabs_Ropp. repeat split.
    + ring.
    + apply Rabs_pos.
    + apply Rmult_le_pos; [lra|apply Rabs_pos].
    + apply Rle_trans with (1 := H). apply Rmax_r.
Qed.

(** The induction. [moved] is the exact sum of the terms as computed and of the rests of all nodes,
    each counted as one more exact term; [W] the sum of their magnitudes. *)
Lemma any_order_moved :
  forall lost t, terms_of_format t ->
  Rmax 0 lam + 2 * tiny <= lost -> (unfused t \/ Rmax eta lam + 2 * tiny <= lost) ->
  exists moved W,
    Rabs (computed t - moved) <= additions t * v * W /\
    Rabs moved <= W /\
    Rabs (moved - exact t) <= term_errors t + additions t * lost /\
    W <= magnitudes t + term_errors t + additions t * lost.
Proof.
  intros lost t. pose proof (v_bounds prec) as ((Hv0 & Hv1) & _).
  induction t as [x y|l IHl w IHw|x y t IHt]; simpl; intros F Hl Hf.
  - exists y, (Rabs y).
    replace (y - y) with 0 by ring. rewrite Rabs_R0. repeat split; try lra.
    replace y with (x + (y - x)) at 1 by ring.
    eapply Rle_trans; [apply Rabs_triang|]. lra.
  - destruct F as (Fl & Fw).
    destruct (IHl Fl Hl ltac:(intuition)) as (a & A & Ea & Aa & Ma & WA).
    destruct (IHw Fw Hl ltac:(intuition)) as (b & B & Eb & Bb & Mb & WB).
    pose proof (format_computed l Fl) as Fa. pose proof (format_computed w Fw) as Fb.
    pose proof (additions_nonneg l) as Hm. pose proof (additions_nonneg w) as Hn.
    pose proof (reading_error (computed l)) as Rl. pose proof (reading_error (computed w)) as Rw.
    pose proof (reading_below (computed l)) as Bl. pose proof (reading_below (computed w)) as Bw.
    destruct (node_of_sum _ _ (format_read _ Fa) (format_read _ Fb))
      as (D & rho & E & D1 & D2 & D3 & Hrho).
    assert (HA : 0 <= A) by (apply Rle_trans with (2 := Aa); apply Rabs_pos).
    assert (HB : 0 <= B) by (apply Rle_trans with (2 := Bb); apply Rabs_pos).
    set (m := additions l) in *. set (n := additions w) in *.
    assert (La : Rabs (computed l) <= A + m * v * A).
    { replace (computed l) with (a + (computed l - a)) by ring.
      eapply Rle_trans; [apply Rabs_triang|]. lra. }
    assert (Lb : Rabs (computed w) <= B + n * v * B).
    { replace (computed w) with (b + (computed w - b)) by ring.
      eapply Rle_trans; [apply Rabs_triang|]. lra. }
    assert (HD : Rabs D <= v * (A + B) + m * v * B + n * v * A).
    { apply cross_terms; try lra.
      apply Rle_trans with (1 := D3). apply Rmult_le_compat_l; [lra|].
      eapply Rle_trans; [apply Rabs_triang|]. lra. }
    set (rest := rho + ((read (computed l) - computed l) + (read (computed w) - computed w))).
    assert (Hrest : Rabs rest <= lost).
    { unfold rest. eapply Rle_trans; [apply Rabs_triang|].
      eapply Rle_trans; [apply Rplus_le_compat_l; apply Rabs_triang|]. lra. }
    pose proof (Rabs_pos rest) as Hrest0.
    exists (a + b + rest), (A + B + Rabs rest). rewrite E. repeat split.
    + replace (read (computed l) + read (computed w) + D + rho - (a + b + rest))
        with ((computed l - a) + (computed w - b) + D) by (unfold rest; ring).
      eapply Rle_trans; [apply Rabs_triang|].
      eapply Rle_trans; [apply Rplus_le_compat_r; apply Rabs_triang|].
      assert (0 <= (m + n + 1) * v * Rabs rest)
        by (apply Rmult_le_pos; [apply Rmult_le_pos|]; lra).
      lra.
    + eapply Rle_trans; [apply Rabs_triang|].
      apply Rplus_le_compat_r. eapply Rle_trans; [apply Rabs_triang|]. lra.
    + replace (a + b + rest - (exact l + exact w))
        with ((a - exact l) + (b - exact w) + rest) by ring.
      eapply Rle_trans; [apply Rabs_triang|].
      eapply Rle_trans; [apply Rplus_le_compat_r; apply Rabs_triang|]. lra.
    + lra.
  - destruct Hf as [[]|Hf].
    destruct (IHt F Hl ltac:(right; exact Hf)) as (b & B & Eb & Bb & Mb & WB).
    pose proof (format_computed t F) as Fb.
    pose proof (additions_nonneg t) as Hn.
    pose proof (reading_error (computed t)) as Rt. pose proof (reading_below (computed t)) as Bt.
    destruct (node_of_product y _ (format_read _ Fb)) as (D & rho & E & D1 & D2 & Hrho).
    assert (HB : 0 <= B) by (apply Rle_trans with (2 := Bb); apply Rabs_pos).
    set (n := additions t) in *. pose proof (Rabs_pos y) as Hy.
    assert (Lb : Rabs (computed t) <= B + n * v * B).
    { replace (computed t) with (b + (computed t - b)) by ring.
      eapply Rle_trans; [apply Rabs_triang|]. lra. }
    assert (HD : Rabs D <= v * (Rabs y + B) + n * v * Rabs y).
    { apply cross_terms_fused; try lra.
      apply Rle_trans with (1 := D2). apply Rmult_le_compat_l; [lra|].
      eapply Rle_trans; [apply Rabs_triang|]. lra. }
    set (rest := rho + (read (computed t) - computed t)).
    assert (Hrest : Rabs rest <= lost).
    { unfold rest. eapply Rle_trans; [apply Rabs_triang|]. lra. }
    pose proof (Rabs_pos rest) as Hrest0.
    exists (y + b + rest), (Rabs y + B + Rabs rest). rewrite E. repeat split.
    + replace (y + read (computed t) + D + rho - (y + b + rest))
        with ((computed t - b) + D) by (unfold rest; ring).
      eapply Rle_trans; [apply Rabs_triang|].
      assert (0 <= (n + 1) * v * Rabs rest)
        by (apply Rmult_le_pos; [apply Rmult_le_pos|]; lra).
      lra.
    + eapply Rle_trans; [apply Rabs_triang|].
      apply Rplus_le_compat_r. eapply Rle_trans; [apply Rabs_triang|]. lra.
    + replace (y + b + rest - (x + exact t)) with ((y - x) + (b - exact t) + rest) by ring.
      eapply Rle_trans; [apply Rabs_triang|].
      eapply Rle_trans; [apply Rplus_le_compat_r; apply Rabs_triang|]. lra.
    + assert (Rabs y <= Rabs x + Rabs (y - x)).
      { replace y with (x + (y - x)) at 1 by ring. apply Rabs_triang. }
      lra.
Qed.

(** [any-order-linear]: with Pi' = Pi + m * lambda, |s^ - s| <= Pi' + m * v * (S + Pi'), any m. *)
Theorem any_order_linear :
  forall lost t, terms_of_format t ->
  Rmax 0 lam + 2 * tiny <= lost -> (unfused t \/ Rmax eta lam + 2 * tiny <= lost) ->
  let moved := term_errors t + additions t * lost in
  Rabs (computed t - exact t) <= moved + additions t * v * (magnitudes t + moved).
Proof.
  intros lost t F Hl Hf moved.
  destruct (any_order_moved lost t F Hl Hf) as (s & W & E & _ & M & HW).
  pose proof (v_bounds prec) as ((Hv0 & _) & _). pose proof (additions_nonneg t) as Hm.
  replace (computed t - exact t) with ((computed t - s) + (s - exact t)) by ring.
  eapply Rle_trans; [apply Rabs_triang|].
  assert (additions t * v * W <= additions t * v * (magnitudes t + moved)).
  { apply Rmult_le_compat_l; [apply Rmult_le_pos; lra|]. unfold moved. lra. }
  unfold moved in *. lra.
Qed.

(** ** Dot products: [dot-product], [dot-product-total], [underflow-term], [jeannerod-rump-dot]

    Each term is a product that was rounded, or joins in a fused node as it is. *)

Fixpoint of_products (t : tree) : Prop :=
  match t with
  | Leaf x y => y = fl x
  | Add l r => of_products l /\ of_products r
  | Fused x y t => y = x /\ of_products t
  end.

Lemma format_products : forall t, of_products t -> terms_of_format t.
Proof.
  induction t; simpl; intuition. subst. apply format_fl.
Qed.

Lemma rounded_product : forall x, Rabs (fl x - x) <= v * Rabs x + Rmax eta lam.
Proof.
  intros x. pose proof (v_bounds prec) as ((Hv0 & _) & _).
  destruct (rounding x) as [E|[E H]]; rewrite E.
  - pose proof (rounding_model emin prec choice x). pose proof (Rmax_l eta lam). lra.
  - replace (0 - x) with (- x) by ring. rewrite Rabs_Ropp.
    pose proof (Rmult_le_pos _ _ Hv0 (Rabs_pos x)). pose proof (Rmax_r eta lam). lra.
Qed.

Lemma product_errors :
  forall t, of_products t ->
  term_errors t <= v * magnitudes t + (additions t + 1) * Rmax eta lam.
Proof.
  pose proof (v_bounds prec) as ((Hv0 & _) & _).
  assert (Hu : 0 <= Rmax eta lam).
  { apply Rle_trans with (2 := Rmax_l _ _). apply eta_nonneg. }
  induction t as [x y|l IHl w IHw|x y t IHt]; simpl.
  - intros ->. pose proof (rounded_product x). lra.
  - intros (Hl & Hw). specialize (IHl Hl). specialize (IHw Hw). lra.
  - intros (-> & Ht). specialize (IHt Ht). replace (x - x) with 0 by ring. rewrite Rabs_R0.
    pose proof (Rmult_le_pos _ _ Hv0 (Rabs_pos x)). lra.
Qed.

(** Any tree over the products, for any number of terms. *)
Theorem dot_product_any_order :
  forall t, of_products t ->
  let lost := Rmax eta lam + 2 * tiny in
  let moved := v * magnitudes t + (additions t + 1) * Rmax eta lam + additions t * lost in
  Rabs (computed t - exact t) <= moved + additions t * v * (magnitudes t + moved).
Proof.
  intros t P lost moved.
  assert (Hl : Rmax 0 lam + 2 * tiny <= lost).
  { unfold lost. apply Rplus_le_compat_r. apply Rmax_lub.
    - apply Rle_trans with (2 := Rmax_l _ _). apply eta_nonneg.
    - apply Rmax_r. }
  pose proof (any_order_linear lost t (format_products t P) Hl ltac:(right; apply Rle_refl)) as H.
  cbv zeta in H. pose proof (product_errors t P) as HP.
  pose proof (v_bounds prec) as ((Hv0 & _) & _). pose proof (additions_nonneg t) as Hm.
  apply Rle_trans with (1 := H). unfold moved.
  apply Rplus_le_compat; [lra|].
  apply Rmult_le_compat_l; [apply Rmult_le_pos; lra|]. lra.
Qed.

End Sums.
