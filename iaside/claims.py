"""Every testable claim of the seeds, what was measured about it, and the verdict by one rule.

A reporting notebook hands a statistic, its 95 % interval and n to `record` and writes the records
of its stage with `as_document` to `results/<stage>/claims.json`; `gather` turns those files into
one row per claim, those that nobody tested included. Nothing here computes a statistic.

Words used in the statistics below, always in this sense:

* *low bands*, *high bands*: the lower and the upper half of the M bands;
* *psi*: Shapley values before any normalisation, in the unit of the worth (nats by default);
* *SID*: the min-max-normalised values; *SRC*: the score printed in the papers;
  *signed SRC*: `robustness_score(..., signed=True, norm="tight")`, which is 1 when all
  importance lies in band 0 and negative when high bands dominate. Claims that one model is more
  robust than another use the signed SRC, because the printed one also rises for models that live
  on the highest bands; claims about the printed score use the printed one;
* *paired*: computed per image on the same images, then averaged.

Left out are statements that no measurement could contradict (what other methods "fall short" of),
that restate a definition, or that only announce features (wavelets in seed 000). Symmetry,
linearity and the dummy axiom of raw Shapley values are theorems: the tests of `shapley` hold them.
"""

import difflib
import math
import numbers
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

# How close to nothing counts as nothing: the margins of null claims, the same for all of a kind.
RHO_MARGIN = 0.3  # |rank correlation|: "no correlation"
SID_MARGIN = 0.1  # L1 distance of two SIDs (at most 2): "alike"
PSI_MARGIN = 0.05  # share of v(all) - v(none): "no importance", "uniform"
# Moving 0.05 of a SID's mass from band 0 to band 7, an L1 distance of 0.1, moves the tight SRC
# by 0.05 * (1 - 0.75**7) / 0.55 = 0.08 at M = 8: "comparable" scores are as far apart at most.
SRC_MARGIN = 0.08

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_TESTED = "not tested"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One falsifiable sentence of a seed and how it is put to the test.

    `kind` is "greater" or "less" (the statistic is claimed to lie beyond `threshold`) or "null"
    (its absolute value is claimed to be at most `threshold`). `stage` is the reporting notebook
    that tests it, `needs` what a study must contain for that.
    """

    id: str
    statement: str
    source: str
    stage: str
    statistic: str
    needs: str
    kind: str = "greater"
    threshold: float = 0.0

    @property
    def claimed(self) -> str:
        """The claimed side as text: "> 0", "< 0.007" or "|.| <= 0.3"."""
        sign = {"greater": ">", "less": "<", "null": "|.| <="}[self.kind]
        return f"{sign} {self.threshold:g}"


# Sorted by seed, then by section. What several seeds claim stands where its fullest wording is.
CLAIMS: tuple[Claim, ...] = (
    # --- seed 000: a news item about the method -----------------------------------------------
    Claim(
        id="adversarial_training_tradeoff",
        statement="Adversarial training improves one type of robustness while degrading another.",
        source="seed 000 'Why This Matters'",
        stage="jafr",
        statistic="two parts, adversarially trained against standard twin, paired over images: "
        "gain in accuracy under PGD, and loss of accuracy on the low-frequency corruptions",
        needs="PGD-trained networks and their standard twins (training study with `pgd`)",
    ),
    Claim(
        id="profile_predicts_loss",
        statement="The band profile of a model tells which perturbations it fails under.",
        source="seed 000 'Why This Matters'",
        stage="match",
        statistic="Spearman rho, over models x corruptions, of the loss predicted from band "
        "values and band SNR with the measured accuracy drop",
        needs="robustness tables of at least two models in `models`",
    ),
    Claim(
        id="profile_beats_score",
        statement="Matching band profiles to the deployment selects models better than one "
        "overall robustness score does.",
        source="seed 000 'Implications for AI Practitioners'",
        stage="match",
        statistic="mean over corruptions of Spearman rho over models (profile-predicted loss, "
        "measured loss) minus that of (minus signed SRC, measured loss)",
        needs="robustness tables of at least four models in `models`",
    ),
    Claim(
        id="sid_linear",
        statement="The importance satisfies the formal properties of the axioms, linearity among "
        "them, also as it is reported (normalised).",
        source="seed 000 'Implications for AI Practitioners'",
        stage="importance",
        kind="null",
        threshold=SID_MARGIN,
        statistic="L1 distance between the SID of the mean game and the mean of the per-image "
        "SIDs, trained models (zero for any linear functional)",
        needs="worths of a trained model",
    ),
    # --- seed 001: first version of the method ------------------------------------------------
    Claim(
        id="low_energy_majority",
        statement="The majority of the spectral energy of natural images lies at low frequencies.",
        source="seed 001 abstract, Fig. 1",
        stage="bands",
        threshold=0.5,
        statistic="share of an image's energy, mean (DC) excluded, that lies in the low bands; "
        "mean over images",
        needs="photographs",
    ),
    Claim(
        id="high_bands_fragile",
        statement="A small perturbation rewrites the features of high-frequency bands more "
        "easily than those of low-frequency bands (robust features are the low ones).",
        source="seed 001 Fig. 1; seed 002 Sec. 1 and 3.1",
        stage="correlation",
        statistic="mPE under noise confined to one band, mean over the high bands minus mean "
        "over the low bands, at equal perturbation energy, paired over images",
        needs="band-limited noise in the robustness tables",
    ),
    Claim(
        id="least_squares_additive",
        statement="The least-squares decomposition satisfies strong efficiency: the "
        "contributions of the bands of every coalition add up to its worth.",
        source="seed 001 Sec. 3.2 and 3.6, Eq. 5",
        stage="importance",
        kind="null",
        threshold=0.05,
        statistic="non-additivity index ||C V - g||^2 / ||g||^2 of the mean game g with "
        "probability worths over all non-empty coalitions (0 = additive), trained models",
        needs="worths of a trained model with value `probability`",
    ),
    Claim(
        id="least_squares_efficient",
        statement="The least-squares decomposition satisfies the usual efficiency axiom: its "
        "values add up to the worth of all bands together.",
        source="seed 001 Sec. 3.2, footnote 5",
        stage="importance",
        kind="null",
        threshold=0.05,
        statistic="(sum of least-squares values - g(all)) / g(all) of the mean game g with "
        "probability worths, trained models",
        needs="worths of a trained model with value `probability`",
    ),
    Claim(
        id="src_range",
        statement="The score is scaled to [0, 1], its largest value being 1.",
        source="seed 001 Sec. 3.7, Eq. 8; seed 002 Eq. 11 and App. C.2",
        stage="importance",
        kind="null",
        threshold=0.01,
        statistic="1 minus the largest SRC that any SID can have (the SRC is convex in the SID, "
        "so one of the M vertices has it); exact, n = M",
        needs="nothing but the band number and beta",
    ),
    Claim(
        id="k200_l1",
        statement="With K = 200 images the SID of resnet18 on ImageNet is exact to less than "
        "0.007 in L1.",
        source="seed 001 Sec. 3.8",
        stage="convergence_report",
        kind="less",
        threshold=0.007,
        statistic="L1 distance between the SID of 200 images and that of all others, at least "
        "2,000, times sqrt(1 - K/N) for the noise of these; mean over draws",
        needs="resnet18 in `convergence.networks` and an ImageNet folder with at least 2,200 "
        "images",
    ),
    Claim(
        id="parameter_count",
        statement="The number of parameters does not decide robustness: it does not correlate "
        "with the score.",
        source="seed 001 Sec. 4.1, Fig. 4; seed 002 Sec. 4.2, Fig. 10a",
        stage="architecture",
        kind="null",
        threshold=RHO_MARGIN,
        statistic="Spearman rho of SRC with the number of parameters, over models",
        needs="at least four models in `models` (about 45 for an interval inside the margin)",
    ),
    Claim(
        id="more_data_more_robust",
        statement="Models trained on larger training sets learn more robust features.",
        source="seed 001 Sec. 4.1, Fig. 3 (3)",
        stage="data_size",
        statistic="signed SRC with the whole training set minus signed SRC with its smallest "
        "fraction, same architecture, equal numbers of updates; means over seeds; parts: the "
        "architectures",
        needs="training study with at least two data fractions (five networks for an interval)",
    ),
    Claim(
        id="shufflenet_robust",
        statement="The very light shufflenet_v2_x0_5 has a high robustness for its size.",
        source="seed 001 Sec. 4.1",
        stage="architecture",
        statistic="signed SRC of shufflenet_v2_x0_5 minus the mean over the other models, paired "
        "over images",
        needs="shufflenet_v2_x0_5 and at least four others in `models`",
    ),
    Claim(
        id="shufflenet_adversarial",
        statement="Adversarial perturbations affirm that shufflenet_v2_x0_5 is robust.",
        source="seed 001 Sec. 4.1, Fig. 7",
        stage="architecture",
        kind="less",
        statistic="relative mPE (mPE / mean clean probability) of shufflenet_v2_x0_5 minus the "
        "mean over the other models, paired over images; parts: FGSM and PGD at eps = 0.2, T = 2",
        needs="shufflenet_v2_x0_5 and at least four others in `models`",
    ),
    Claim(
        id="low_bands_learnt_first",
        statement="Training learns the low-frequency bands first and the high-frequency bands "
        "later.",
        source="seed 001 Sec. 4.3, Fig. 6",
        stage="dynamics",
        statistic="Spearman rho of band index with the epoch at which the band's psi first "
        "reaches half of its final value (straight between checkpoints, from 0 before training; "
        "bands whose final psi lies above 0); mean over networks",
        needs="training study with checkpoints along the epochs",
    ),
    Claim(
        id="second_stage_tradeoff",
        statement="In the second stage of training models trade robustness for accuracy: they "
        "learn non-robust features to become more accurate.",
        source="seed 001 Sec. 4.3, Fig. 6",
        stage="dynamics",
        statistic="two parts, from the epoch of the highest signed SRC to the last one, mean over "
        "networks: fall of signed SRC, and rise of held-out accuracy; the epoch is picked on half "
        "of the held-out images, both are measured on the other half, and the other way round",
        needs="training study with checkpoints along the epochs (five networks for an interval)",
    ),
    Claim(
        id="src_adversarial_t2",
        statement="Adversarial perturbations are negatively correlated with the score.",
        source="seed 001 Sec. 4.4, Fig. 7",
        stage="correlation",
        kind="less",
        statistic="Spearman rho over models of SRC with mPE at softmax temperature T = 2; parts: "
        "FGSM and PGD at eps = 0.2",
        needs="robustness tables of at least four models (about 15 for an interval that decides)",
    ),
    Claim(
        id="adversarial_high_frequency",
        statement="Adversarial samples carry a high proportion of non-robust (high-frequency) "
        "features.",
        source="seed 001 Sec. 4.4, Fig. 7",
        stage="snr_report",
        threshold=0.5,
        statistic="share of the energy of the perturbation that lies in the high bands, mean over "
        "images and models; parts: FGSM and PGD",
        needs="FGSM and PGD perturbations of the images",
    ),
    Claim(
        id="low_frequency_attacks",
        statement="Adversarial perturbations confined to low frequencies can fool networks too.",
        source="seed 001 Sec. 5; seed 002 Sec. 6 (1)",
        stage="correlation",
        statistic="drop of accuracy under PGD confined to band 0, eps = 8/255, paired over images; "
        "parts: the models",
        needs="band-limited attacks in the robustness tables",
    ),
    Claim(
        id="sampling_inaccurate",
        statement="Sampling coalitions instead of enumerating them gives inaccurate results.",
        source="seed 001 Sec. 5",
        stage="resolution_report",
        threshold=SID_MARGIN,
        statistic="L1 distance between the SID from sampled coalitions and the exact SID of the "
        "same images at one seventh of the exact cost; mean over draws, for the images at hand "
        "(the more there are, the smaller it is); parts: the models",
        needs="exact worths tables at M = 8 and the sampled estimator",
    ),
    # --- seed 002: the published version ------------------------------------------------------
    Claim(
        id="low_frequencies_not_enough",
        statement="High classification accuracy cannot be achieved by low-frequency signals alone.",
        source="seed 002 abstract",
        stage="importance",
        # "Low" is here the shortest prefix with the majority of an image's energy (seed 001
        # Fig. 1), not half of the spectrum: I_0 and I_1 at M = 8, about 64 % for 1/f images.
        statistic="clean accuracy minus accuracy with only the shortest low-pass prefix of bands "
        "that holds most of the images' energy, DC excluded; paired over images; parts: the "
        "trained models",
        needs="worths of a trained model with value `accuracy`",
    ),
    Claim(
        id="snr_exponential",
        statement="The spectral SNR of perturbed natural images decays exponentially with "
        "frequency.",
        source="seed 002 abstract",
        stage="snr_report",
        statistic="AIC of the power-law fit minus AIC of the exponential fit to log SNR(r), two "
        "coefficients each, per image; mean over images and sources",
        needs="the eight perturbation sources of Fig. 2",
    ),
    Claim(
        id="snr_decays",
        statement="The spectral SNR decays with frequency for every one of the eight "
        "perturbations shown, so low-frequency signals are the robust ones.",
        source="seed 002 Sec. 1, Fig. 2",
        stage="snr_report",
        kind="less",
        statistic="slope of the SNR in dB against log10 of the radius, perturbation energy 10 % of "
        "the image's; mean over images; parts: the eight sources",
        needs="the eight perturbation sources of Fig. 2",
    ),
    Claim(
        id="snr_power_law",
        statement="The spectral SNR of perturbed natural images is power-law-like over frequency.",
        source="seed 002 Sec. 1, Fig. 2",
        stage="snr_report",
        statistic="AIC of the exponential fit minus AIC of the power-law fit to log SNR(r), two "
        "coefficients each, per image; mean over images and sources",
        needs="the eight perturbation sources of Fig. 2",
    ),
    Claim(
        id="esd_power_law",
        statement="The energy spectral density of natural images follows a power law over "
        "frequency.",
        source="seed 002 Sec. 1, Fig. 1; seed 001 Sec. 5",
        stage="bands",
        # The AIC difference, not the exponent: any decaying spectrum has an exponent.
        statistic="AIC of the exponential fit (log ESD against r) minus AIC of the power-law fit "
        "(log ESD against log r), two coefficients each, DC excluded, per image; mean over images",
        needs="photographs",
    ),
    Claim(
        id="perturbations_flatter",
        statement="The spectra of many perturbations are not power-law-like as those of natural "
        "images are: they fall less steeply.",
        source="seed 002 Sec. 1",
        stage="snr_report",
        statistic="log-log slope of the perturbation's ESD minus that of the image's ESD, per "
        "image; mean over images and the eight sources",
        needs="the eight perturbation sources of Fig. 2",
    ),
    Claim(
        id="linf_density",
        statement="With linf bands the data density of the players is a constant (read as: every "
        "band's ring lies wholly inside the spectrum).",
        source="seed 002 Sec. 3.1 and App. C.1, Fig. 14",
        stage="bands",
        kind="null",
        threshold=0.05,
        statistic="coefficient of variation over bands of cells in the band / area of its square "
        "ring, (2i+1) (d/M)^2 cells, at 224 px and M = 8 (small images add rounding); exact, n = M",
        needs="nothing but the masks",
    ),
    Claim(
        id="linf_equal_cells",
        statement="With linf bands the data density of the players is a constant (read as: every "
        "band has equally many frequency components).",
        source="seed 002 Sec. 3.1 and App. C.1, Fig. 14",
        stage="bands",
        kind="null",
        threshold=0.05,
        statistic="coefficient of variation over bands of the number of cells in the band, at "
        "224 px and M = 8; exact, n = M",
        needs="nothing but the masks",
    ),
    Claim(
        id="l2_density",
        statement="With l2 bands the data density of the players is not a constant, since some "
        "frequency components do not exist.",
        source="seed 002 App. C.1, Fig. 14",
        stage="bands",
        threshold=0.05,
        statistic="coefficient of variation over bands of cells in the band / area of its annulus, "
        "metric `l2_corner` (its rings reach the corners), at 224 px and M = 8; exact, n = M",
        needs="nothing but the masks",
    ),
    Claim(
        id="efficiency",
        statement="The values of the bands add up to the worth of all bands together.",
        source="seed 002 Sec. 3 and App. B",
        stage="importance",
        kind="null",
        threshold=1e-6,
        statistic="(sum of psi - (v(all) - v(none))) of an image / largest |v| of the model; the "
        "image with the largest absolute value; exact, n = images; parts: the models",
        needs="worths of a trained model",
    ),
    Claim(
        id="trained_nonuniform",
        statement="The spectral importance of trained models is non-uniform.",
        source="seed 002 Sec. 3.1, Fig. 6 (1); seed 001 Fig. 3 (1)",
        stage="importance",
        threshold=PSI_MARGIN,
        # Not the distance of a SID to uniform: min-max puts a band at zero, so that distance is
        # at least 2/M for every model and 0.55 on average for pure noise. The plain maximum below
        # is biased upwards too, hence an interval that covers all bands at once.
        statistic="largest |psi_i - mean psi| over bands, as a share of v(all) - v(none); interval "
        "from simultaneous intervals [l_i, u_i] of psi_i - mean psi at 1 - 0.05/M each: low = "
        "largest max(l_i, -u_i, 0), high = largest max(|l_i|, |u_i|); parts: the trained models",
        needs="worths of a trained model",
    ),
    Claim(
        id="untrained_uniform",
        statement="The spectral importance of untrained models is uniform: they have no spectral "
        "preferences.",
        source="seed 002 Fig. 6 (2), Assumption 3.7; seed 001 Fig. 3 (2)",
        stage="importance",
        kind="null",
        threshold=PSI_MARGIN,
        # On psi: a min-max SID cannot be uniform, whatever the model.
        statistic="psi_i of the untrained model as a share of v(all) - v(none) of its trained twin "
        "on the same photographs, mean over initialisations, which are the unit (Student's t); "
        "parts: every band of every untrained model",
        needs="at least 5 initialisations of a usable untrained control (logit sd .01 to 3), and "
        "worths of its trained twin",
    ),
    Claim(
        id="value_is_information",
        statement="The worth of a coalition measures the information about the label that the "
        "model uses from it.",
        source="seed 002 Sec. 3.3, Theorem 3.6",
        stage="importance",
        kind="null",
        threshold=PSI_MARGIN,
        # H(Y) + v(S) + C bounds the information; v(S) alone is that bound only if C = -H(Y), that
        # is if the model answers the empty image with the prior of the labels.
        statistic="(C + H(Y)) / H(Y), C the mean log-likelihood on the empty image, H(Y) = "
        "log(number of classes); parts: the trained models",
        needs="worths of a trained model with value `log_likelihood`",
    ),
    Claim(
        id="src_prefers_low",
        statement="The score is the higher, the lower the frequencies that a model uses.",
        source="seed 002 Assumption 3.8, Eq. 11; seed 001 Sec. 3.7",
        stage="importance",
        statistic="smallest difference SRC(all importance in band k) - SRC(all in band k+1) over "
        "k; exact, n = M - 1",
        needs="nothing but the band number and beta",
    ),
    Claim(
        id="robust_features_robust_models",
        statement="Higher use of robust (low-frequency) features in decisions implies robust "
        "models.",
        source="seed 002 Assumption 3.8",
        stage="correlation",
        kind="less",
        # Given accuracy, since better models are more accurate and have a lower mCE anyway.
        statistic="partial Spearman rho over models of signed SRC with mCE given clean accuracy",
        needs="robustness tables of at least four models (about 15 for an interval that decides)",
    ),
    Claim(
        id="beta_075_best",
        statement="beta = 0.75 achieves the best correlation with robustness.",
        source="seed 002 Assumption 3.8",
        stage="correlation",
        statistic="|Spearman rho| of SRC with mCE at beta = 0.75 minus the largest one at any "
        "other beta of 0.50, 0.55, ..., 0.95, over models",
        needs="robustness tables of at least four models (about 15 for an interval that decides)",
    ),
    Claim(
        id="k200_representative",
        statement="A small number of examples (200) represents the spectral signals sufficiently.",
        source="seed 002 Sec. 4 and App. C.3",
        stage="convergence_report",
        kind="null",
        threshold=SID_MARGIN,
        statistic="L1 distance between the SID of 200 images and that of all others, at least "
        "2,000, times sqrt(1 - K/N) for the noise of these; mean over draws; parts: the networks",
        needs="a labelled image set with at least 2,200 images",
    ),
    Claim(
        id="src_mce",
        statement="The score correlates with the mean corruption error: robust models score high.",
        source="seed 002 Sec. 4.1, Fig. 7",
        stage="correlation",
        kind="less",
        statistic="Spearman rho of SRC with mCE, over models",
        needs="robustness tables of at least four models (about 15 for an interval that decides)",
    ),
    Claim(
        id="src_adversarial",
        statement="The score correlates with the mean prediction error under adversarial attacks "
        "at every strength.",
        source="seed 002 Sec. 4.1, Fig. 8",
        stage="correlation",
        kind="less",
        statistic="Spearman rho of SRC with mPE, over models; parts: FGSM and PGD, each at "
        "eps = 0.10, 0.15, 0.20",
        needs="robustness tables of at least four models (about 15 for an interval that decides)",
    ),
    Claim(
        id="src_corruptions",
        statement="The score correlates with the mean prediction error under white noise and "
        "Gaussian blur in all cases.",
        source="seed 002 Sec. 4.1, Fig. 9",
        stage="correlation",
        kind="less",
        statistic="Spearman rho of SRC with mPE, over models; parts: white noise of sigma 0.10, "
        "0.15, 0.20 and blur kernels 3, 5, 7",
        needs="robustness tables of at least four models (about 15 for an interval that decides)",
    ),
    Claim(
        id="transformers_cluster",
        statement="Vision transformers form a cluster of their own among the SIDs.",
        source="seed 002 Sec. 4.2, Fig. 10b",
        stage="architecture",
        # In SID space itself: a t-SNE of so few points shows clusters that are not there.
        statistic="mean silhouette of the vision transformers against the ConvNets, L1 distances "
        "of SIDs; interval over images",
        needs="vit_b_16, swin_b, maxvit_t and at least three ConvNets in `models`",
    ),
    Claim(
        id="transformers_more_robust",
        statement="Vision transformers use more robust features than ConvNets.",
        source="seed 002 Sec. 4.2, Fig. 10b",
        stage="architecture",
        statistic="mean signed SRC of vision transformers minus that of ConvNets; interval over "
        "models and images",
        needs="vit_b_16, swin_b, maxvit_t and at least three ConvNets in `models`",
    ),
    Claim(
        id="efficientnet_comparable",
        statement="State-of-the-art ConvNets, such as efficientnet, are comparable to vision "
        "transformers in robustness.",
        source="seed 002 Sec. 4.2",
        stage="architecture",
        kind="null",
        threshold=SRC_MARGIN,
        statistic="signed SRC of efficientnet_v2_s minus the mean of the vision transformers, "
        "paired over images",
        needs="efficientnet_v2_s, vit_b_16, swin_b and maxvit_t in `models`",
    ),
    Claim(
        id="efficientnet_over_older",
        statement="efficientnet_v2_s uses more robust features than alexnet and resnet18.",
        source="seed 002 Sec. 4.2, Fig. 6",
        stage="architecture",
        statistic="signed SRC of efficientnet_v2_s minus that of the other model, paired over "
        "images; parts: alexnet and resnet18",
        needs="efficientnet_v2_s, alexnet and resnet18 in `models`",
    ),
    Claim(
        id="noise_lowers_accuracy",
        statement="Test accuracy falls as the label noise of the training set rises.",
        source="seed 002 Sec. 4.3",
        stage="label_noise",
        kind="less",
        statistic="slope of held-out accuracy against label-noise level (0 to 1), over levels and "
        "seeds; parts: the architectures",
        needs="training study with at least three label-noise levels",
    ),
    Claim(
        id="noise_more_uniform",
        statement="SIDs are more uniform the higher the label noise in training.",
        source="seed 002 Sec. 4.3, Fig. 11; seed 001 Sec. 4.2, Fig. 5",
        stage="label_noise",
        statistic="slope of entropy(SID)/log M against label-noise level, over levels and seeds, "
        "without the levels whose interval of v(all) - v(none) does not lie above zero (a SID is "
        "noise there); parts: the architectures",
        needs="training study with at least three label-noise levels",
    ),
    Claim(
        id="noise_less_robust_features",
        statement="Models trained with more label noise use more non-robust (high-frequency) "
        "features.",
        source="seed 002 Sec. 4.3; seed 001 Sec. 4.2",
        stage="label_noise",
        statistic="slope of the high bands' part of sum |psi_i| against label-noise level, same "
        "levels as `noise_more_uniform`; parts: the architectures",
        needs="training study with at least three label-noise levels",
    ),
    Claim(
        id="low_bands_preferred",
        statement="Models trained on clean labels prefer low-frequency signals.",
        source="seed 002 Sec. 5, Fig. 11 caption",
        stage="importance",
        statistic="mean psi of the low bands minus mean psi of the high bands, as a share of "
        "v(all) - v(none), paired over images; parts: the trained models",
        needs="worths of a trained model",
    ),
    Claim(
        id="m8_suffices",
        statement="M = 8 bands are sufficient to interpret robustness.",
        source="seed 002 Sec. 6 (2); seed 001 Sec. 5",
        stage="resolution_report",
        kind="null",
        threshold=SID_MARGIN,
        statistic="L1 distance between the SID at M = 8 and the SID made of the finer values "
        "summed within those eight bands, same images; parts: M = 16, 32, 64 for every model",
        needs="sampled worths at M = 16, 32 and 64",
    ),
    Claim(
        id="absences_alike",
        statement="The three ways to fill absent bands (zero, Gaussian, replacement) perform "
        "alike.",
        source="seed 002 App. B.2, Fig. 12",
        stage="choices_report",
        kind="null",
        threshold=SID_MARGIN,
        # The published Gaussian fill is numerically zero; the claim is about a visible one.
        statistic="L1 distance between SIDs, same images; parts: Gaussian (spatial sigma of the "
        "study) and replacement, each against zero, for every model",
        needs="networks under `choices`",
    ),
    Claim(
        id="errors_converge",
        statement="Estimation errors converge as the number of images grows.",
        source="seed 002 App. C.3, Fig. 15",
        stage="convergence_report",
        kind="less",
        # Against a reference: consecutive differences shrink even when nothing converges.
        statistic="log-log slope against K of the L1 distance (1/M) between the SID of K images "
        "and that of all others, times sqrt(1 - K/N) for the noise of these; interval over images; "
        "parts: the networks",
        needs="at least 5 images in `convergence`, twice as many as the largest K",
    ),
    Claim(
        id="error_bound_holds",
        statement="The estimation error stays below 2^(M-1) sqrt(Var/K).",
        source="seed 002 App. C.3, Eq. 42",
        stage="convergence_report",
        kind="less",
        threshold=1.0,
        statistic="largest |estimated - reference psi_i| over bands / the bound with the largest "
        "observed variance; 95 % quantile over draws; reference as for convergence; interval over "
        "images; parts: the networks and K",
        needs="at least 5 images in `convergence`, twice as many as the largest K",
    ),
    # --- seed 003: FAMPE ----------------------------------------------------------------------
    Claim(
        id="attack_transfers",
        statement="Frequency-aware adversarial attacks transfer to other models.",
        source="seed 003 abstract",
        stage="attribution_report",
        statistic="accuracy drop of the other models on samples crafted on one model, against "
        "clean images resized the same way, paired over images; parts: the pairs of models",
        needs="at least two models in the attribution study",
    ),
    Claim(
        id="fampe_over_attexplore",
        statement="FAMPE attains a higher Insertion Score than AttEXplore.",
        source="seed 003 abstract",
        stage="attribution_report",
        statistic="Insertion Score of FAMPE at a fixed alpha = 0.1 minus that of AttEXplore, "
        "paired over images; mean over models",
        needs="attribution study with both methods",
    ),
    Claim(
        id="fampe_gain_13",
        statement="The average gain of FAMPE over AttEXplore in Insertion Score is 13.02 %.",
        source="seed 003 abstract",
        stage="attribution_report",
        kind="null",
        threshold=5.0,
        statistic="relative gain of the mean Insertion Score at a fixed alpha = 0.1 over models, "
        "in percent, minus 13.02 (percentage points)",
        needs="attribution study with both methods",
    ),
    Claim(
        id="fampe_best",
        statement="FAMPE outperforms all existing attribution methods it is compared with.",
        source="seed 003 abstract, Fig. 3",
        stage="attribution_report",
        statistic="Insertion Score of FAMPE at a fixed alpha = 0.1 minus that of the other method, "
        "paired over images, mean over models; parts: the other methods",
        needs="attribution study with the baselines",
    ),
    Claim(
        id="fampe_decoupling_helps",
        statement="Separating high- from low-frequency perturbations makes attribution more "
        "precise than perturbing all frequencies alike.",
        source="seed 003 TL;DR",
        stage="attribution_report",
        statistic="Insertion Score of FAMPE at alpha = 0.1 minus at alpha = 0.5 (all-pass), "
        "paired over images; mean over models",
        needs="attribution study with an alpha grid",
    ),
    Claim(
        id="fampe_high_matters",
        statement="In FAMPE high-frequency perturbations contribute more to precise attribution "
        "than low-frequency ones.",
        # The seed announces this ablation; its direction is in the abstract of the paper's v2.
        source="seed 003 abstract, ablation (direction: arXiv 2510.03245v2)",
        stage="attribution_report",
        statistic="Insertion Score of FAMPE at alpha = 0.1 (mostly high) minus at alpha = 0.9 "
        "(mostly low), paired over images; mean over models",
        needs="attribution study with an alpha grid",
    ),
    Claim(
        id="importance_predicts_alpha",
        statement="Photographs that a network reads by low frequencies gain most from "
        "high-frequency perturbation in FAMPE.",
        # The authors speak of photographs dominated by low frequencies; I-ASIDE's values are ours.
        source="seed 003 abstract, ablation (direction: arXiv 2510.03245v2)",
        stage="attribution_report",
        statistic="Spearman rho, over photographs, of the leaning of Shapley values to low bands "
        "with the Insertion Score at alpha = 0.1 minus at 0.9; parts: the networks",
        needs="attribution study with an alpha grid, at least 5 photographs",
    ),
    # --- seed 004: JaFR -----------------------------------------------------------------------
    Claim(
        id="augmentation_low_reliance",
        statement="Data augmentation makes models over-rely on low frequencies and costs accuracy "
        "under low-frequency corruptions.",
        source="seed 004 summary",
        stage="jafr",
        statistic="two parts, with against without augmentation, mean over seeds: rise of signed "
        "SRC, and loss of accuracy on the low-frequency corruptions",
        needs="training study with and without augmentation",
    ),
    Claim(
        id="jafr_high_gain",
        statement="Biasing a classifier towards low frequencies gains accuracy under "
        "high-frequency corruptions.",
        source="seed 004 summary",
        stage="jafr",
        statistic="accuracy with JaFR (lambda > 0) minus without on the high-frequency "
        "corruptions, paired over images; parts: training kinds",
        needs="JaFR training study (lambda > 0)",
    ),
    Claim(
        id="jafr_low_loss",
        statement="Biasing a classifier towards low frequencies costs accuracy under "
        "low-frequency corruptions.",
        source="seed 004 summary and limitations",
        stage="jafr",
        kind="less",
        statistic="accuracy with JaFR (lambda > 0) minus without on the low-frequency "
        "corruptions, paired over images; parts: training kinds",
        needs="JaFR training study (lambda > 0)",
    ),
    Claim(
        id="jafr_mirrored",
        statement="Biasing a classifier towards high frequencies gains under low-frequency "
        "corruptions and costs under high-frequency ones.",
        source="seed 004 summary",
        stage="jafr",
        statistic="two parts, JaFR with lambda < 0 against without, paired over images: gain on "
        "the low-frequency corruptions, and loss on the high-frequency ones",
        needs="JaFR training study (lambda < 0)",
    ),
    Claim(
        id="jafr_shifts_spectrum",
        statement="JaFR shifts the spectrum of a model's input gradients towards low frequencies.",
        source="seed 004 methodology",
        stage="jafr",
        statistic="low-frequency bias B of the input gradient with JaFR (lambda > 0) minus "
        "without; mean over seeds; parts: training kinds",
        needs="JaFR training study (lambda > 0)",
    ),
    Claim(
        id="jafr_corruptions",
        statement="JaFR improves the corruption robustness of standard-trained models.",
        source="seed 004 key result 1",
        stage="jafr",
        statistic="mean accuracy over all corruptions, standard training with JaFR minus without, "
        "paired over images; parts: the data sets",
        needs="JaFR training study (standard training)",
    ),
    Claim(
        id="jafr_adversarial",
        statement="JaFR improves the adversarial robustness of weakly adversarially trained "
        "models.",
        source="seed 004 key result 2",
        stage="jafr",
        statistic="accuracy under PGD, FGSM training with JaFR minus without, paired over images; "
        "parts: the data sets",
        needs="JaFR training study (FGSM training)",
    ),
    Claim(
        id="jafr_over_pgd",
        statement="JaFR outperforms PGD adversarial training under most corruptions.",
        source="seed 004 key result 3",
        stage="jafr",
        threshold=0.5,
        statistic="share of the corruptions under which JaFR is more accurate than PGD training; "
        "interval over seeds and images; parts: the data sets",
        needs="JaFR training study (with PGD training)",
    ),
    Claim(
        id="jafr_less_low_than_pgd",
        statement="JaFR avoids the over-reliance on low frequencies of PGD adversarial training.",
        source="seed 004 key result 3",
        stage="jafr",
        kind="less",
        statistic="signed SRC with JaFR minus that with PGD training, paired over images; parts: "
        "the data sets",
        needs="JaFR training study (with PGD training)",
    ),
    Claim(
        id="jafr_large_lambda",
        statement="A larger lambda of JaFR gives poorer overall performance.",
        source="seed 004 limitations",
        stage="jafr",
        kind="less",
        statistic="mean of clean, corruption and PGD accuracy at the largest lambda minus at the "
        "recommended one, paired over images",
        needs="JaFR training study with at least two positive lambdas",
    ),
)

_BY_ID = {claim.id: claim for claim in CLAIMS}


def find(claim_id: str) -> Claim:
    """Return the claim of that id.

    Raises:
        ValueError: no claim has this id; the message names the closest ones.

    >>> find("src_mce").claimed
    '< 0'
    """
    if claim_id in _BY_ID:
        return _BY_ID[claim_id]
    close = difflib.get_close_matches(str(claim_id), _BY_ID, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else "the ids are in iaside.claims.CLAIMS."
    raise ValueError(f"unknown claim id {claim_id!r}; {hint}")


def verdict(claim: Claim, estimate: float, low: float, high: float) -> str:
    """Judge one claim by its 95 % interval `[low, high]`, by the same rule for all claims.

    Directional: "supported" if the whole interval lies beyond the threshold on the claimed side,
    "contradicted" if the whole of it lies on the other side. Null: "supported" if the whole
    interval lies inside the margin, "contradicted" if the whole of it lies outside. Anything else
    is "undecided": an interval that touches a threshold, one that is not finite, a NaN estimate.
    An exact number is an interval with `low == high`.

    Raises:
        ValueError: `low` is larger than `high`.

    >>> verdict(find("src_mce"), -0.6, -0.8, -0.3)
    'supported'
    >>> verdict(find("parameter_count"), 0.1, -0.2, 0.4)
    'undecided'
    """
    if low > high:
        raise ValueError(f"interval of {claim.id!r}: low {low} exceeds high {high}; swap them")
    if not all(map(math.isfinite, (estimate, low, high))):
        return UNDECIDED
    if claim.kind == "null":
        inside = -claim.threshold <= low and high <= claim.threshold
        outside = high < -claim.threshold or low > claim.threshold
        return SUPPORTED if inside else CONTRADICTED if outside else UNDECIDED
    above, below = low > claim.threshold, high < claim.threshold
    as_claimed, opposite = (above, below) if claim.kind == "greater" else (below, above)
    return SUPPORTED if as_claimed else CONTRADICTED if opposite else UNDECIDED


def record(claim_id: str, estimate: float, low: float, high: float, n: int, note: str = "") -> dict:
    """Put a measurement and its verdict on record, ready for JSON.

    `n` counts the independent units behind the interval (images, models, seeds; cells or bands
    for an exact count); with fewer than two the verdict is "undecided" whatever the interval
    says. Numbers that are not finite become None.

    Raises:
        ValueError: unknown id, `low > high` or negative `n`.
        TypeError: a number that is none, or an `n` that is no integer.

    >>> row = record("src_mce", -0.6, -0.8, -0.3, n=19)
    >>> row["verdict"], row["claimed"], row["source"]
    ('supported', '< 0', 'seed 002 Sec. 4.1, Fig. 7')
    """
    claim = find(claim_id)
    estimate, low, high = (
        _number(claim_id, name, value)
        for name, value in (("estimate", estimate), ("low", low), ("high", high))
    )
    n = _count(claim_id, n)
    judged = verdict(claim, estimate, low, high)
    return {
        "id": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "statistic": claim.statistic,
        "claimed": claim.claimed,
        "verdict": judged if n >= 2 else UNDECIDED,
        "estimate": _finite_or_none(estimate),
        "low": _finite_or_none(low),
        "high": _finite_or_none(high),
        "n": n,
        "note": note,
        "parts": [],
    }


def worst(claim_id: str, parts: Mapping[str, Sequence], note: str = "") -> dict:
    """Put a claim about several things (models, attacks, bands) on record as one.

    It is supported only if every part is, and contradicted if any part is. The record carries the
    numbers of its worst part, named in the note, and lists every part.

    Support needs no correction for the number of parts: all of them have to succeed. One
    contradicted part suffices, so with k parts and a true claim at its threshold the risk of a
    false contradiction grows up to k times 2.5 %. Widen the intervals to 1 - 0.05/k where that
    matters.

    Args:
        claim_id: id of the claim.
        parts: name of the part -> (estimate, low, high, n).
        note: further words.

    Raises:
        ValueError: no parts, a part that is not four numbers, and all errors of `record`.

    >>> row = worst("efficientnet_over_older", {
    ...     "alexnet": (0.3, 0.2, 0.4, 24), "resnet18": (0.1, -0.1, 0.3, 24)})
    >>> row["verdict"], row["note"], row["low"]
    ('undecided', 'worst of 2: resnet18', -0.1)
    """
    claim = find(claim_id)
    if not parts:
        raise ValueError(f"claim {claim_id!r} has no parts to combine; pass at least one")
    records = {}
    for name, numbers_of_part in parts.items():
        if len(numbers_of_part) != 4:
            raise ValueError(
                f"part {name!r} of claim {claim_id!r} must be (estimate, low, high, n), "
                f"got {numbers_of_part!r}"
            )
        records[name] = record(claim_id, *numbers_of_part)
    weakest = min(records, key=lambda name: _strength(claim, records[name]))
    keys = ("verdict", "estimate", "low", "high", "n")
    listed = [{"part": name, **{k: row[k] for k in keys}} for name, row in records.items()]
    said = f"worst of {len(records)}: {weakest}"
    return {**records[weakest], "note": f"{said}; {note}" if note else said, "parts": listed}


def as_document(stage: str, records: Iterable[dict]) -> dict:
    """Wrap the records of one reporting stage as the content of its `claims.json`.

    Raises:
        ValueError: two records have the same id.

    >>> as_document("correlation", [record("src_mce", -0.6, -0.8, -0.3, n=19)])["stage"]
    'correlation'
    """
    document = {"stage": stage, "claims": list(records)}
    _recorded([document])
    return document


def gather(documents: Iterable[dict]) -> list[dict]:
    """Turn the `claims.json` contents of a study into one row per claim of the seeds, in order.

    A claim that nobody recorded reads "not tested: needs ..." and has no numbers. `stage` is the
    stage that recorded the claim, or the one that would.

    Args:
        documents: what `as_document` returned, one per stage.

    Raises:
        ValueError: two records of one claim (both stages are named), or an unknown id.

    >>> rows = gather([as_document("correlation", [record("src_mce", -0.6, -0.8, -0.3, n=19)])])
    >>> len(rows) == len(CLAIMS)
    True
    >>> [row["verdict"] for row in rows if row["id"] == "k200_representative"]
    ['not tested: needs a labelled image set with at least 2,200 images']
    """
    recorded = _recorded(documents)
    untested = dict(estimate=None, low=None, high=None, n=None, note="", parts=[])
    rows = []
    for claim in CLAIMS:
        row = {
            **asdict(claim),
            "claimed": claim.claimed,
            "verdict": f"{NOT_TESTED}: needs {claim.needs}",
            **untested,
        }
        if claim.id in recorded:
            stage, found = recorded[claim.id]
            row |= {key: found[key] for key in ("verdict", *untested)} | {"stage": stage}
        rows.append(row)
    return rows


def count_verdicts(rows: Iterable[dict]) -> dict[str, int]:
    """Count the rows of `gather` by verdict, all four kinds always present.

    >>> count_verdicts(gather([]))["supported"]
    0
    """
    counts = dict.fromkeys((SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED), 0)
    for row in rows:
        counts[row["verdict"].split(":")[0]] += 1
    return counts


def _recorded(documents: Iterable[dict]) -> dict[str, tuple[str, dict]]:
    """Map claim id -> (stage, record); an id recorded twice is an error that names both stages."""
    found: dict[str, tuple[str, dict]] = {}
    for document in documents:
        for row in document["claims"]:
            claim_id, stage = find(row["id"]).id, document["stage"]
            if claim_id in found:
                raise ValueError(
                    f"claim {claim_id!r} is recorded twice, by stage {found[claim_id][0]!r} and "
                    f"by stage {stage!r}; one stage decides a claim (see `worst` for several parts)"
                )
            found[claim_id] = stage, row
    return found


def _strength(claim: Claim, row: dict) -> tuple[int, float]:
    """Order parts: by verdict first, then by how far the interval reaches into the claimed side."""
    rank = (CONTRADICTED, UNDECIDED, SUPPORTED).index(row["verdict"])
    if row["low"] is None or row["high"] is None:
        return rank, -math.inf
    if claim.kind == "null":
        return rank, claim.threshold - max(abs(row["low"]), abs(row["high"]))
    if claim.kind == "less":
        return rank, claim.threshold - row["high"]
    return rank, row["low"] - claim.threshold


def _number(claim_id: str, name: str, value: float) -> float:
    if not isinstance(value, numbers.Real):  # NumPy's scalars are Real
        raise TypeError(
            f"{name} of claim {claim_id!r} must be a number, got {value!r}; "
            "use float('nan') for what could not be computed"
        )
    return float(value)


def _count(claim_id: str, n: int) -> int:
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"n of claim {claim_id!r} must be an integer, got {n!r}") from None
    if n < 0:
        raise ValueError(f"n of claim {claim_id!r} must be 0 or more, got {n}")
    return n


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
