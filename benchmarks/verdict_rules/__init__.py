"""The rules that decide claims, each with the claims it decides and the worlds it is tried in.

`RULES` and `NOT_TRIED` together name every claim of claims.yaml (test_verdict_rates.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from verdict_rules import networks, photographs, procedures, profiles, trainings, twins
from verdict_rules.worlds import World


class Rule(NamedTuple):
    """Claims that are decided alike, and the worlds in which the first of them is tried."""

    claims: tuple[str, ...]
    worlds: Callable[[], list[World]]
    parts: int = 1  # whose levels their resamples have to hold


NOT_TRIED = {  # claim -> why
    **dict.fromkeys(
        ("src_range", "linf_density", "linf_equal_cells", "l2_density", "efficiency"),
        "exact: a formula or a count, which has no error",
    ),
    "information_identity": "no verdict yet: no study will decide it (`cannot`)",
}

RULES: dict[str, Rule] = {
    # photographs
    "a mean over 24 photographs": Rule(
        ("snr_power_law", "snr_exponential", "perturbations_flatter"),
        partial(photographs.a_mean, 24),
    ),
    "a mean over 10 photographs": Rule(
        ("esd_power_law", "low_energy_majority"), partial(photographs.a_mean, 10)
    ),
    "4 means over photographs": Rule(
        ("snr_decays", "adversarial_high_frequency", "high_bands_fragile"),
        photographs.parts_of_means,
        parts=4,
    ),
    "4 means within a margin": Rule(
        ("value_is_information",), photographs.means_within_a_margin, parts=4
    ),
    "4 means over 12 draws": Rule(("sampling_inaccurate",), photographs.means_of_draws),
    "4 shares of a worth": Rule(("low_bands_preferred",), photographs.shares_of_worth, parts=4),
    "4 shares of a worth, within a margin": Rule(
        ("least_squares_efficient",), photographs.shares_within_a_margin, parts=4
    ),
    "2 relative changes": Rule(("shufflenet_adversarial",), photographs.relative_changes, parts=2),
    "2 x 2 readings, 10 photographs": Rule(
        ("fampe_over_attexplore", "fampe_decoupling_helps", "fampe_high_matters"),
        photographs.readings,
    ),
    "2 x 2 readings of 3 parts": Rule(("fampe_best",), photographs.readings_of_parts, parts=3),
    "2 x 2 readings of a gain in percent": Rule(("fampe_gain_13",), photographs.gains_in_percent),
    "2 x 2 readings of the best of 30 cells": Rule(
        ("fampe_cutoff_grid",), photographs.the_best_cell
    ),
    "2 x 2 readings of an order of photographs": Rule(
        ("importance_predicts_alpha",), photographs.order_of_photographs
    ),
    "right answers of 4 networks, 24 photographs": Rule(
        ("low_frequencies_not_enough", "low_frequency_attacks"), photographs.right_answers
    ),
    "right answers of 12 networks, 10 photographs": Rule(
        ("attack_transfers",), partial(photographs.right_answers, n=10, k=12)
    ),
    "4 indices of additivity": Rule(
        ("least_squares_additive",), photographs.additive_games, parts=4
    ),
    "an exact number": Rule(("src_prefers_low",), photographs.exact_numbers),
    # whole procedures
    "slopes of errors": Rule(("errors_converge",), procedures.slopes_of_errors),
    "distances of samples": Rule(
        ("k200_l1", "k200_representative"), procedures.distances_of_samples
    ),
    "2 errors over a bound": Rule(("error_bound_holds",), procedures.errors_over_a_bound),
    # SIDs, scores and shares
    "a difference of two scores": Rule(("shufflenet_robust",), profiles.two_scores),
    "2 differences of scores": Rule(("efficientnet_over_older",), profiles.several_scores),
    "a difference of scores within a margin": Rule(
        ("efficientnet_comparable",), profiles.scores_within_a_margin
    ),
    "4 distances, 12 photographs": Rule(("absences_alike",), profiles.distances, parts=4),
    "12 distances, 24 photographs": Rule(
        ("m8_suffices",),
        partial(profiles.distances, "m8_suffices", profiles.of_resolutions, 12, 24, 0.35),
    ),
    "4 mean SIDs against SIDs of means": Rule(("sid_linear",), profiles.linear_sids, parts=4),
    "4 most unusual bands": Rule(("trained_nonuniform",), profiles.unusual_bands),
    # networks
    "a correlation, 21 networks": Rule(
        ("src_mce",),
        partial(
            networks.correlations,
            "src_mce",
            networks.with_mce,
            networks.ALONE,
            designs=networks.NO_DESIGNS,
        ),
    ),
    "a correlation over 21 kinds of training": Rule(
        ("tradeoffs_early",),
        partial(
            networks.correlations,
            "tradeoffs_early",
            networks.with_kinds,
            networks.ALONE,
            designs=networks.NO_DESIGNS,
        ),
    ),
    "a correlation within 7 designs": Rule(
        ("src_mce",), partial(networks.correlations, "src_mce", networks.with_mce)
    ),
    "a correlation, some scores folded": Rule(("src_mce",), networks.folded_scores),
    "a correlation given a third number": Rule(
        ("robust_features_robust_models",), networks.given_accuracy
    ),
    "4 correlations within designs": Rule(
        ("src_adversarial", "src_adversarial_t2", "src_corruptions"),
        partial(
            networks.correlations,
            "src_adversarial",
            networks.with_attacks,
            k=4,
            n=None,
            designs=networks.ALIKE,
        ),
    ),
    "a correlation within a margin": Rule(
        ("parameter_count",),
        partial(
            networks.correlations,
            "parameter_count",
            networks.with_parameters,
            rho=0.3,
            designs={"designs alike": {}},
        ),
    ),
    "the best of 3 betas": Rule(("beta_075_best",), networks.best_of),
    "orders of losses, 6 networks": Rule(("profile_predicts_loss",), networks.orders_of_losses),
    "orders of losses against a rival's": Rule(
        ("profile_beats_score", "profile_over_accuracy"), networks.orders_against_a_rival
    ),
    "4 networks against 4": Rule(
        ("transformers_more_robust",), partial(networks.groups_of_networks, (4, 4))
    ),
    "4 networks against 9": Rule(
        ("transformers_more_robust",), partial(networks.groups_of_networks, (4, 9))
    ),
    "a cluster of 4 among 9": Rule(("transformers_cluster",), networks.clusters),
    # trainings
    "a gain of 3 twins": Rule(
        (
            "jafr_high_gain",
            "jafr_low_loss",
            "jafr_corruptions",
            "jafr_adversarial",
            "jafr_large_lambda",
        ),
        twins.gains_of_twins,
    ),
    "a gain and a loss of 3 twins": Rule(
        ("jafr_mirrored", "adversarial_training_tradeoff"), twins.gains_and_losses
    ),
    "a gain of 3 fine-tunings": Rule(("targeted_beats_generic",), twins.gains_of_fine_tunings),
    "2 gains of 3 fine-tunings": Rule(("penalty_mends",), twins.gains_over_two),
    "gradients of 3 kinds of 3 twins": Rule(("jafr_shifts_spectrum",), twins.gradients_of_twins),
    "the share of wins of 6 twins": Rule(("jafr_over_pgd",), twins.wins_of_twins),
    "scores of 3 twins": Rule(
        ("jafr_less_low_than_pgd", "augmentation_low_reliance"), twins.scores_of_twins
    ),
    "scores of trainings that differ in size": Rule(
        ("more_data_more_robust",), trainings.sizes_of_profiles
    ),
    "2 slopes of accuracy, 3 trainings a level": Rule(
        ("noise_lowers_accuracy",), trainings.slopes_of_accuracy
    ),
    "a slope of entropy, 3 trainings a level": Rule(
        ("noise_more_uniform",), trainings.slopes_of_entropy
    ),
    "a slope of the high part, 3 trainings a level": Rule(
        ("noise_less_robust_features",), trainings.slopes_of_high_parts
    ),
    "orders of learning, 3 trainings": Rule(
        ("low_bands_learnt_first",), trainings.orders_of_learning
    ),
    "second stages of 3 trainings": Rule(("second_stage_tradeoff",), trainings.second_stages),
    "32 parts of 5 initialisations": Rule(("untrained_uniform",), trainings.initialisations),
    "8 bands of 5 initialisations over a measured worth": Rule(
        ("untrained_uniform",), trainings.controls
    ),
}
