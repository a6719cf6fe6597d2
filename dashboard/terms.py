"""Words for people: names of models, families, sets, conditions and measures, and what each term means."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

FAMILY = {
    "supervised": "Supervised",
    "ssl": "Self-supervised",
    "random": "Random control",
    "pixels": "Raw pixels",
    "unknown": "Unknown",
}
"""Family -> its name, in the order in which families are shown."""

METHOD = {
    "supervised": "Supervised",
    "simclr": "SimCLR",
    "moco": "MoCo v2",
    "nnclr": "NNCLR",
    "dcl": "DCL",
    "swav": "SwAV",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "dino": "DINO",
    "vicreg": "VICReg",
    "barlow": "Barlow Twins",
    "mae": "MAE",
    "simmim": "SimMIM",
    "ijepa": "I-JEPA",
    "random": "Random",
    "pixels": "Raw pixels",
    "ensemble": "Ensemble",
}
SSL_FAMILY = {
    "contrastive": "contrastive",
    "clustering": "clustering",
    "distillation": "distillation",
    "information_maximisation": "information maximisation",
    "masked_image_modelling": "masked image modelling",
}
FRAMEWORKS = {
    "contrastive": "Contrastive",
    "clustering": "Clustering",
    "distillation": "Distillation",
    "information_maximisation": "Information maximisation",
    "masked_image_modelling": "Masked image modelling",
    "generative": "Other generative",
    "hybrid": "Hybrid",
    "pretext": "Pretext task",
}
"""Family of frameworks of the registry -> its name, in the order in which they are shown."""
ARCH = {"cnn": "CNN", "resnet": "ResNet", "vit": "ViT", "mixer": "Mixer"}
ARCH |= {f"resnet{depth}": f"ResNet-{depth}" for depth in (10, 20, 32, 44, 56)}
ROLE = {
    "original": "original",
    "replication": "replication",
    "shifted": "shifted",
    "composite": "composed",
    "control": "control",
}
LABELS = {
    "original": "Original",
    "true": "True",
    "composed": "All present",
    "consensus": "Consensus",
    "machine": "Machine",
    "real": "ReaL",
    "refined_v2": "Refined (Multilabelfy)",
}
GROUP = {"family": "of family", "method": "of method", "arch": "of architecture"}
"""What models are grouped by in a picker."""
MEASURE = {
    "entropy_nats": "Entropy",
    "msp": "1 − highest probability",
    "margin": "1 − margin of the first two",
    "energy": "Energy",
    "mutual_information": "Disagreement in the ensemble",
}
"""Measure of uncertainty -> its name, in the order in which measures are offered; higher is less sure in all."""
AGREEMENT = "agreement"
AGREE = "Disagreement of the other models"
"""What stands in the place of a measure where nothing but answers is known."""
RULE = {
    "R0": "All images",
    "R1": "Same threshold",
    "R2": "Same coverage",
    "R3": "Matched",
    "R4": "Sure for others",
    "R5": "Quadrants",
}
"""Rule of study 3 -> its name."""
AXIS = {"linear": "Linear", "logit": "Logit", "probit": "Probit"}
SUBSET = {
    "all": "All test images",
    "suitable": "Right by all models before an attack",
    "attack": "Attacked images",
    "disputed": "Disputed by the models",
    "multi-label": "Several labels",
    "single-label": "One label",
}
ATTACK = {
    "fgsm": "FGSM, L∞",
    "pgd-linf": "PGD, L∞",
    "pgd-l2": "PGD, L2",
    "pgd-l0": "PGD, L0",
    "mi-fgsm": "MI-FGSM, L∞",
    "apgd-ce": "APGD-CE, L∞",
    "apgd-dlr": "APGD-DLR, L∞",
    "square": "Square, L∞",
    "deepfool": "DeepFool, L2",
    "cw-l2": "C&W, L2",
    "lbfgs": "L-BFGS, L2",
}
"""Kind of attack -> its name."""
TARGET = {"drawn": "a drawn class", "runner-up": "the runner-up"}
"""Classes that attacks lead to."""
PROBE = {"linear": "Linear probe", "knn": "kNN, k = 20", "knn-200": "kNN, k = 200", "finetune": "Fine-tuned"}
SSL = {
    "contrast": "The contrast",
    "backbones": "Clean images",
    "corruption": "Corruption",
    "attack": "Attack",
    "few": "Few labels",
    "wrong": "Wrong labels",
    "calibration": "Calibration",
    "training": "Training",
}
"""Sections of the page SSL."""
CONTRAST = {
    "accuracy": "All images",
    "change": "Change from clean",
    "both_right": "Images both get right when clean",
}
"""How two networks are compared under a condition (bench/studies/ssl.py)."""
AGAINST = {"same_views": "Same architecture, data and views", "same_arch": "Same architecture"}
"""Supervised networks that self-supervised ones are held against."""
VIEWS = {
    "views": "geometry, colour, blur or noise",
    "supervised": "geometry only",
    "none": "unchanged",
}
"""What the images of a training bear."""

THREATS = {
    "pairs": "Pairs",
    "images": "Images",
    "classes": "Taken for",
    "objectives": "Objectives",
    "regions": "Regions",
    "detection": "Detection",
    "checks": "Checks",
}
"""Sections of the page Attacks."""
REGION = {
    "centre": "Middle square",
    "corner": "Corner square",
    "frame": "Frame",
    "random": "Scattered",
    "gradcam": "Grad-CAM",
}
"""Kinds of regions (bench/attacks/masks.py)."""
PAPER_REGIONS = ("centre", "frame", "random")
"""Those of the paper: the others are this benchmark's own."""
SEGMENTING = {
    "asma": "ASMA",
    "static-mask": "Static mask",
    "static-multiplier": "Static multiplier",
    "static-both": "Both static",
    "ce-pgd": "PGD, cross-entropy",
    "logit-pgd": "PGD, logits",
}
"""Variants of the attack on segmentations."""
OBJECTIVE = {
    "ce": "Cross-entropy",
    "sign": "Cross-entropy, sign",
    "logit": "Difference of logits",
}
CLIMBED = {"ce": "the cross-entropy", "sign": "its sign", "logit": "the difference of logits"}
"""Objectives, in a sentence."""
PACE = {"equal": "in steps of one length", "raw": "in steps as long as the gradient"}
"""Variants, in a sentence."""
STRIDES = {"equal": "Steps of one length", "raw": "Steps as long as the gradient"}
"""Variants, above a table."""
PERTURBED = {**OBJECTIVE, "noise": "Random noise"}
DETECTED = {
    ("clean", "u8"): "From clean, 8 bits",
    ("clean", "float"): "From clean, not rounded",
    ("noise", "u8"): "From noise, 8 bits",
}
"""What detectors tell perturbed images from, and how images come to them."""
RETRAINED = {
    "before": "As it was",
    "clean": "Retrained, clean only",
    "finetune": "Retrained, true labels",
    "class": "Retrained, own class",
}
ROUND = {"clean": "Clean, all", "first": "Made on it as it was", "second": "Made on itself"}
TARGET_RULE = {"random": "Drawn at random", "runner_up": "Runner-up"}
"""How the class that images are moved to is chosen."""
COLLISION = {"exact": "Exact", "integer": "Whole steps of 8 bits", "optimised": "Optimised"}
NULLITY = {
    "dense": "All singular values",
    "patch": "Those of one patch",
    "windows": "Neighbouring windows",
    "lanczos": "Bounds by Lanczos",
    "shape": "Bound by the shape",
}
"""How a nullity was found."""
TASK = {"classify": "Class", "segment": "Mask of the ink", "locate": "Box of the ink"}
SOURCE_IMAGES = {
    "fragile": "Fragile: transfer by at least 71 % of the pairs of models (30 of 42 in the paper)",
    "hard": "Hard: transfer by at most 12 % (5 of 42 in the paper)",
}
SAMPLED = {
    "rate": "Transfer rate, mean over pairs, %",
    "pair": "Transfer rate of the pair that ranges most, %",
    "l2": "Mean L2 of transfers",
    "linf": "Mean Linf of transfers, /255",
}
PROXY = {
    "p_top1": "Highest probability",
    "entropy_nats": "Entropy",
    "margin": "Margin of the first two logits",
    "gradient_norm": "Norm of the gradient",
    "runner_up": "Share of the runner-up among other classes",
}
"""Clean figure of an image -> its name."""
TAKEN = {
    "top2": "The runner-up",
    "top3": "Within three places",
    "top5": "Within five places",
    "inside": "Inside the group of the label",
}
"""What an image is taken for, by the target's clean order or by named groups of classes -> its name."""
APART = {"steps": "Steps between", "similarity": "Similarity", "depth": "Depth of the deepest kind that holds both"}
"""How far two classes are apart in WordNet -> its name."""

HELP = {
    "accuracy": "Share of images for which the model's first answer is right: the label itself, or with a label source "
    "of several labels an image any of them. In percent, with Wilson's interval.",
    "interval": "The range that fits the data: an experiment repeated with other images of the same kind would give "
    "ranges that hold the true value 95 times in 100, unless params.yaml sets another level of confidence.",
    "place": "Place among all models on all images of the set. Models whose order cannot be told apart share a place: "
    "exact McNemar test of each pair on the same images, adjusted by Holm over all pairs.",
    "gap": "Accuracy on the original minus accuracy on the other set, in percentage points (pp). Positive: the other "
    "set is harder for this model.",
    "shifted": "The same concept collected and processed by other people in another way. A gap has many causes here; "
    "it says nothing about overfitting to the original.",
    "control": "A set made here whose cause of difference is known, to see whether the figures find it.",
    "composed": "Images put together here from real ones. Not collected as they are.",
    "original": "The set on which models are usually compared.",
    "replication": "A set collected later by the recipe of the original.",
    "null": "Two halves of one test set, drawn at random: whatever gap they show is chance.",
    "families": "Supervised: trained with labels. Self-supervised: trained without, then a linear head on frozen "
    "features. Random control: an untrained encoder with the same head. Raw pixels: that head without an encoder.",
    "labels": "Which labels count as right. Any label of that source is accepted where an image has several.",
    "subset": "A named part of the test images. Its definition is on the page Snapshot.",
    "linear": "Logistic regression on frozen features, fitted on the train labels. Everything it knows of the images "
    "comes through the encoder.",
    "knn": "The label of the nearest train images in the space of the features.",
    "robust": "Share of the attacked images that are right both before and after the attack.",
    "eps": "How far an attack may go: the largest change of any pixel in steps of 1/255 (L∞), the Euclidean length of "
    "the change of all pixels of [0, 1] (L2), or the share of the positions that may change (L0).",
    "contrast": "Accuracy of self-supervised networks minus that of supervised ones of the same architecture, on the "
    "same images; right of zero the self-supervised ones are better. The thick line is the interval over images, for "
    "these networks; the thin grey one is over networks and images, where there are two of both kinds.",
    "both_right": "Under a condition, a network that is worse on clean images has less to lose. Among the images that "
    "both get right when clean, both start from 100 %: that is robustness at equal clean accuracy.",
    "views": "Supervised networks that saw as many images as often, under the same augmentation. What is compared are "
    "objectives, each with its own settings of the optimiser.",
    "ce": "Errors under a corruption, summed over its severities, over those of the reference network; the mean over "
    "corruptions is mCE. Below 1: fewer errors than the reference (Hendrycks and Dietterich 2019).",
    "ece": "Expected calibration error: how far confidence is from accuracy, averaged over bins of confidence.",
    "nll": "Negative log-likelihood of the label, nats.",
    "temperature": "What logits are divided by so that confidence fits accuracy on images of train kept back. Above "
    "1: the network is too sure.",
    "trust": "Checks that the attack works (Carlini et al. 2019): a network without gradients, or one that answers "
    "differently each time, only seems robust; with any change allowed, nothing should stay right; and a search "
    "without "
    "gradients (Square) should find little that the attack does not. An attack that looks for the nearest image has "
    "nothing to look for at eps 0. Runs that stop early are checked without their stop.",
    "severity": "How strong a corruption is, from 1 to 5. Corruptions are simulated.",
    "uncertainty": "Entropy of the answer in nats: 0 = sure, ln(number of classes) = no idea at all.",
    "answers": "Number of different answers that the models give to an image.",
    "right": "Number of models whose answer is right.",
    "nlabels": "Number of labels that the chosen source gives to an image.",
    "logit": "log(p / (1 - p)): a step from 90 to 95 % counts about as much as one from 95 to 97.5 %.",
    "effective_rank": "How many directions the features really use (exponential of the entropy of their singular "
    "values). Near 1: collapsed.",
    "any_of": "Share of images whose first answer is any of the labels that the source gives. Images to which it gives "
    "none are left out.",
    "any_of_empty_wrong": "As any-of, but images to which the source gives no label count as wrong.",
    "class_balanced": "Any-of accuracy within each class of the original label, averaged over the classes: rare ones "
    "count as much as frequent ones. Images without labels are left out.",
    "top_k": "Share of an image's labels that are among the model's first k answers, k the number of its labels, "
    "averaged over images with labels whose k answers are known: all labels have to be found, not one of them.",
    "models": "Only these models, on every page. Type to search; `All of ...` stands for a whole group. Only models "
    "that answer to the chosen set are shown.",
    "measure": "Which number says how unsure a model is of an image: higher is less sure. Entropy and disagreement are "
    "in nats.",
    "reference": "The model whose uncertainty tells the images apart, the same images for all models.",
    "percentile": "By rank among all images of the set: 90 to 100 are the tenth of which the reference is least sure.",
    "coverage": "Share of the images that are kept when those of which the model is less sure are left out.",
    "agreement": "Share of the images on which two models are both right or both wrong.",
    "overlap": "Of the images that at least one of two models gets wrong, the share that both get wrong.",
    "difficulty": "How many images are got right by how many of the models shown.",
    "proposals": "Labels that the ensemble of supervised models holds most probable; the given label is always among "
    "them. The score is its mean probability.",
}
"""Term -> its definition, one hover away."""

MAPPED = {"label": "Label", "right": "Right or wrong"}
"""What the points of a map are coloured by."""

HELP |= {
    "transfer": "An image is suitable where every model of the pool gets it right when clean: only of these is a wrong "
    "answer the doing of the attack. On the diagonal, the model that the images were made on.",
    "transfer_count": "T: by how many ordered pairs of different models an image transfers.",
    "proxy": "Figures of the clean image, the mean over models. Which ones the paper tried is not known: these are "
    "this benchmark's own. Spread: the standard deviation of T without the twentieths of the images with the lowest "
    "and the highest value, over that of all; ranges of the mean rate are that much narrower.",
    "asma": "Adaptive segmentation mask attack: steps along the gradient of the target's logits, summed over the "
    "pixels that are not right yet, less the squared size of the change. Steps grow with the IoU (beta * "
    "IoU + tau). tau is chosen here so that an image's first step has the same length for all variants.",
    "segmenting": "Static mask: all pixels count, right or not. Static multiplier: steps do not grow with the IoU. "
    "PGD: as many steps of one length, all pixels, within a ball as large as ASMA's change of the same image "
    "at the end; this benchmark's own comparisons.",
    "iou": "Intersection over union of the foreground (all but class 0) with the target mask: 1 where they are "
    "the same, or both empty. With more than two classes a pixel counts where it has the same class in "
    "both (this benchmark's own definition).",
    "iou_start": "What the network draws of the clean image already has some of the target in common: that is where an "
    "attack starts, and what it is to be measured against.",
    "objectives": "Every image that a network gets right is moved to another class until that is answered: one drawn "
    "by its id, or the one that the network holds for second. "
    "Steps of one length make objectives comparable; along the sign of the gradient such a step goes as far "
    "as the efficiency of the sign says (1 / predicted). The definitions are this benchmark's own.",
    "median_steps": "Median number of steps, of the images that all objectives of a kind of step move to "
    "their targets.",
    "in_8_bits": "Images whose target is still answered after rounding to 8 bits: a small last step past the edge may "
    "be lost.",
    "step_cosine": "Of a step and the next one, before the edges of [0, 1] cut them off; mean over the steps of an "
    "image, and over images. Near 1: a straight way; below 0: to and fro.",
    "lbfgs": "Szegedy's attack: scipy's L-BFGS-B in the box [0, 1] on the squared size of the change plus a weight "
    "times the cross-entropy, with several weights; the nearest image is kept. Its count is that of gradients over "
    "all weights and line searches, which is no number of steps: it is compared by sizes alone.",
    "kappa": "The margin is the logit of the target minus the largest other one. Carlini and Wagner's attack goes on "
    "until it is kappa. All objectives go on here, along the gradient that they have.",
    "saturation": "The gradient of the cross-entropy has the factor 1 - p of the target's p. In float32 p rounds to 1 "
    "where the others are about 17 behind: the target's own term is lost, and what is left pushes other classes down "
    "alone. The same network in float64 has both terms.",
    "detection": "A small network learns to tell clean images from perturbed ones, on other images than it is tested "
    "on. All perturbations have one length and lead to a class drawn by the image's id. In 8 bits both kinds are "
    "rounded; where perturbed ones are not, a detector may see nothing but the lack of rounding. The definitions are "
    "this benchmark's own.",
    "retraining": "The network learns on from clean and perturbed images: with their labels, with a class of their "
    "own, or, as a control, from clean ones alone. Images that were made on the old weights say little of the new "
    "ones, so the new network is attacked with its own gradients. Flagged: answered as adversarial. Fooled: taken for "
    "another class.",
    "regional": "Images that all models get right are attacked from one model, towards a class drawn by its id, "
    "by steps of the sign, on the whole image and on regions alone, until another model answers wrongly. Squares and "
    "frames are the paper's, of images of 224 pixels and scaled; scattered positions are drawn. Squares in corners "
    "and positions where the source looks (Grad-CAM of its last map; of a transformer the first layer's, as later ones "
    "have none) are this benchmark's own.",
    "regional_sizes": "Means over the images and pairs of models by which both the region and the whole transfer, "
    "each when the target first falls; intervals resample images.",
    "regional_budgets": "Transfers as shares of all suitable images and pairs. Equal steps: after a fixed number, "
    "without a query of the target. Equal L2: within that at which half of the transfers of the whole image happened.",
    "drawn": "Drag over positions to select them. The attack is then run on them alone, with the networks in results/.",
    "taken_for": "The place of the class that is answered, in the order in which the same model held the classes for "
    "likely when the image was clean; the label is first.",
    "leaving": "A dog that is taken for another dog is a smaller fault than one that is taken for a bus. Here only "
    "answers outside the group of the label count: the attack's success, semantically corrected. What is left is the "
    "share that is answered rightly or with a class of the group.",
    "apart": "In the hierarchy of WordNet 3.0. Steps: edges on the shortest way over a kind that both classes are of. "
    "Similarity (Wu and Palmer): twice the depth of the deepest such kind, over the sum of that of both classes; 1 is "
    "the same class. Depth: of that kind, the most general one has 0.",
    "rings": "Every transfer between different models, by the groups and the class that it is answered with. Inner "
    "rings hold outer ones; a click on one opens it, and one on the middle closes it.",
    "collision": "Up to its first layer a network is linear in the pixels. Images whose difference this map drops are "
    "one to the network, whatever follows. How they are searched for is this benchmark's own.",
    "attacked": "The perturbation is on grey and stretched until its largest change is black or white. Answers are to "
    "images of 8 bits, as a file holds them; the figures above are of images that were not rounded.",
    "collision_kind": "Exact: the first layer gives the same, but for float64. Whole steps: images of 8 bits that "
    "leave as little as found. Optimised: the last layer gives nearly the same; the difference that is left is shown.",
    "collision_picture": "Made: moved towards the target as far as found. Shown in 8 bits: near the image that was "
    "made, not it; the logits are those of the one that was made, in float64. Difference: made less image, on grey.",
    "collision_checks": "Exact collisions shown to other networks, and to other heads on the same first layer. Under "
    "noise: images with noise of the same L2 in their place. Score: accuracy, or mean overlap of masks or boxes.",
    "nullity": "Dimensions of an image that the first layer does not see; for networks here from the pixels on, "
    "resizing with it. Exact by the singular values of the whole map, or of one patch where patches do not overlap, or "
    "where a few neighbouring windows fix all that they read. By the shape alone it is a lower bound that holds "
    "whatever the weights. By Lanczos: bounds, the upper one with 95 % confidence.",
    "map": "UMAP of an encoder's features under the cosine distance, always with the same seed. It tries to keep who "
    "is near to whom. Sizes of clusters, distances between them and the axes mean little, and the maps of two encoders "
    "cannot be laid over each other.",
    "nearest": "By the cosine of an encoder's whole feature vectors, not by the map. Neighbours are mapped images of "
    "any set, but never made from the same image, and no image comes twice.",
    "in_common": "Share of an image's nearest images that two encoders have in common, averaged over images. By "
    "chance: if both drew their neighbours at random.",
    "same_label": "Share of an image's nearest images that have its original label, averaged over images. By chance: "
    "if neighbours were drawn at random.",
}


def model_name(model: str, method: str, arch: str) -> str:
    """A name for people, or the model's own where the parts say nothing (imported models keep theirs)."""
    if method not in METHOD:
        return model
    if method == "ensemble":
        return f"{model.removeprefix('ensemble-').replace('-', ' ').capitalize()} ensemble"
    return f"{METHOD[method]} {ARCH.get(arch, arch.partition(':')[2])}".strip()


def told_apart(names: Sequence[str], models: Sequence[str]) -> list[str]:
    """Names of which no two are alike: where several models have one name, with what their own names end in besides."""
    alike: dict[str, list[str]] = {}
    for name, model in zip(names, models, strict=True):
        alike.setdefault(name, []).append(model)
    out = []
    for name, model in zip(names, models, strict=True):
        parts = [one.split("-") for one in alike[name]]
        common = next(
            (i for i, words in enumerate(zip(*parts, strict=False)) if len(set(words)) > 1), min(map(len, parts))
        )
        rest = " ".join(model.split("-")[common:])
        out.append(f"{name}, {rest}" if rest and len(parts) > 1 else name)
    return out if len(set(out)) == len(out) else list(models)


def tags(role: str, synthetic: str) -> str:
    """What a set is besides images as collected: `control, corrupted`; empty for an original as collected."""
    words = [ROLE[role]] if role != "original" else []
    return ", ".join(dict.fromkeys(words + ([synthetic] if synthetic else [])))


def dataset_name(title: str, role: str, synthetic: str) -> str:
    """A set's title with what it is in brackets, so that nothing made here passes for collected."""
    said = tags(role, synthetic)
    title = title.removesuffix(f" ({synthetic})") if synthetic else title
    return f"{title} ({said})" if said else title


def subset_name(subset: str) -> str:
    """A subset for people."""
    if subset.startswith("certain-"):
        return f"Most certain {subset.removeprefix('certain-')} %"
    return SUBSET.get(subset, subset.replace("-", " ").capitalize())


def labels_name(source: str) -> str:
    """A label source for people."""
    return LABELS.get(source, source.replace("_", " ").capitalize())


def labels_within(source: str) -> str:
    """A label source inside a sentence: names of their own keep their capitals."""
    return labels_name(source) if source in ("real", "refined_v2") else labels_name(source).lower()


def measure_name(measure: str) -> str:
    """A measure of uncertainty with its unit, where it has one."""
    return MEASURE[measure] + (", nats" if measure in ("entropy_nats", "mutual_information") else "")


def corruption_name(name: str) -> str:
    """A corruption for people."""
    return name.replace("_", " ").capitalize()


STOPPED = {"success": ", until its own network falls", "transfer": ", until each other network falls"}

ASKED = (
    "Each other model was asked after every step, and sizes are those of the first image that it answered wrongly: "
    "this is no transfer without queries, and rates are not those of a fixed number of steps."
)


def attack_name(attack: str, kind: str, source: str = "", stop: str = "never", target: str = "") -> str:
    """An attack for people; `source`: the name of the model on which the images were made that all models are shown;
    `stop` and `target`: as in params.yaml."""
    name = ATTACK.get(kind, attack) + STOPPED.get(stop, "") + (f", to {TARGET[target]}" if target else "")
    return f"{name}, made on {source}" if source else name


EPS_AXIS = {
    "": "Largest change of a pixel, eps in 1/255",
    "L2": "Largest L2 of the change, 255 times that of pixels of [0, 1]",
    "L0": "Positions that may change, in 1/255 of all",
}
"""Norm of an attack, where it is not L∞ -> what its strengths are, as they stand in params.yaml."""


def norm_of(attack: str) -> str:
    """The norm of an attack by its name (`attack_name`), a key of EPS_AXIS."""
    norm = (*attack.split(", "), "", "")[1]
    return norm if norm in EPS_AXIS else ""


def strength(attack: str, eps_255: float) -> str:
    """How far an attack may go, by its name and what stands in params.yaml."""
    if norm_of(attack) == "L2":
        return f"within {eps_255 / 255:.3g}"
    return f"{100 * eps_255 / 255:.3g} % of positions" if norm_of(attack) == "L0" else f"{eps_255:g}/255"


def condition_name(condition: str, attacks: Mapping[str, str]) -> str:
    """A condition for people; `attacks`: attack -> its name."""
    kind, *rest = condition.split(":")
    if kind == "attack":
        name = attacks.get(rest[0], rest[0])
        return f"{name}, {strength(name, float(rest[1]))}"
    if kind == "corruption":
        return corruption_name(rest[0]) if rest else "All corruptions"
    return "Clean images"


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """A proportion as `93.1 %`, with its interval as `93.1 % [91.4, 94.6]`."""
    text = f"{100 * value:.1f} %"
    return text if low is None or high is None else f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def plain_html(text: str) -> str:
    """Text that may hold anything, for a figure: names there are HTML."""
    return html.escape(text)


def level(confidence: float) -> str:
    """A level of confidence as `95 %`."""
    return f"{100 * confidence:g} %"


def region(name: str) -> str:
    """The name of a region for people: `centre-90` is a square in the middle, of 90 pixels a side if the image had
    224."""
    kind, _, size = name.partition("-")
    if kind not in REGION or not size.isdigit():
        return name
    return f"{REGION[kind]}, {size} %" if kind in ("random", "gradcam") else f"{REGION[kind]}, {size}/224"


def points(value: float, low: float | None = None, high: float | None = None, *, sign: bool = False) -> str:
    """A difference in percentage points as `3.2 pp [1.0, 5.4]`; with `sign` as `+3.2 pp`. NaN is no interval."""
    text = f"{value:+.1f} pp" if sign else f"{value:.1f} pp"
    known = low is not None and high is not None and not math.isnan(low) and not math.isnan(high)
    return f"{text} [{low:.1f}, {high:.1f}]" if known else text


def number(value: float, low: float, high: float, *, sign: bool = False) -> str:
    """A number as `1.34 [1.31, 1.37]`; with `sign` as `+1.34`. NaN is no interval."""
    value, low, high = (round(one, 2) + 0.0 for one in (value, low, high))  # no "-0.00"
    text = f"{value:+.2f}" if sign else f"{value:.2f}"
    return text if math.isnan(low) or math.isnan(high) else f"{text} [{low:.2f}, {high:.2f}]"


SCORING = {"top1": "Top-1", "any_of": "Any-of"}
"""How the page Labels scores an answer: by the original label, or by any label of the chosen source."""
STRATA = {"pooled": "Over all images", "class": "Within original classes"}
EMPTY = {"excluded": "Left out", "wrong": "Counted wrong"}
"""What becomes of images to which a source gives no label."""

ORDER = {
    "quality": "Doubtful labels first",
    "disagreement": "Models disagree",
    "uncertainty": "Models are uncertain",
    "labels": "Several likely labels",
    "random": "Random (unbiased rates)",
}
"""Order in which images are annotated -> its name."""

AGREEING = {"figures": "Figures", "disputed": "Disputed images", "refine": "Refine"}
"""Parts of the page Agreement."""
WHO = {"hidden": "Hidden", "shown": "Shown"}
RELABELLED = {
    "images": "Images",
    "accuracy": "Accuracy",
    "rules": "Rules",
    "pending": "What pending votes would change",
}
"""Parts of the page Relabelled."""
CHANGES = {
    "all": "All annotated",
    "changed": "Changed",
    "gained": "Gained labels",
    "lost": "Lost the given label",
    "empty": "Lost all labels",
    "disputed": "Disputed",
    "refined": "Refined",
}
"""Filter of annotated images -> its name."""
RULES = {
    "union": "Union",
    "intersection": "Intersection",
    "majority": "Majority",
    "dawid_skene": "Dawid and Skene",
}
"""How votes become labels -> its name."""

HELP |= {
    "recall": "On images that are known to have several labels: the share of these labels that are shown to "
    "annotators, the given one always among them. The best ensemble of each size is chosen on the images that it is "
    "measured on, so it is a little too good.",
    "agreement": "The label set of an annotator is what they said yes to; sets differ where any label does. Jaccard: "
    "what two sets share, over what either holds; 1 where both are empty. Krippendorff's alpha: 1 for full agreement, "
    "0 for chance; here with MASI, which weighs how far two sets overlap (Passonneau 2006). Intervals come from the "
    "images.",
    "dawid_skene": "Sensitivity: how often an annotator says yes to a label that is right. Specificity: how often no "
    "to one that is wrong. Both are Dawid and Skene's estimate (1979) from everybody's votes, without knowing the "
    "truth: they are of labels that were shown, and too good where annotators make the same mistakes.",
    "ticks": "Labels are shown in the order of the models' scores (unless annotations.shuffle is set), so the first "
    "are right more often: a falling curve alone is no bias. Compare annotators with one another.",
    "proposers": "Labels that a model proposed are easier to find for those who annotate than labels that none did, so "
    "the consensus favours the models of the ensemble that proposes.",
    "frameworks": "The families are those of the survey “Know Your Self-supervised Learning” (2023): contrastive, "
    "clustering, distillation and information maximisation are discriminative, masked image modelling is generative. "
    "Pretext tasks came before; hybrids join two. Where a framework could be of two, the placement is a judgement.",
    "exports": "Images nobody decided have their original label. `bench annotate export --help` makes the same files.",
    "who": "Hidden by default: knowing who said what sways those who decide.",
    "disputed": "Annotators answer differently where one says yes, no or unsure to a label and another does not. A "
    "label is undecided where the rule comes to a tie, where everybody is unsure, or where it is the given one and "
    "nobody judged it. Such an image keeps its given label until it is refined.",
    "refine": "The fourth step of study 1: disputed images are shown once more, with all labels that not everybody "
    "said no to. Where several decide an image and contradict each other, it stays disputed.",
    "rules": "Union: somebody says yes. Intersection: somebody says yes and nobody no. Majority: more than half do; a "
    "tie is disputed. Dawid and Skene: more probable than not, given how reliable everyone is. All before refinement. "
    "Images of which a label stays disputed are counted, and left out of what follows: rules that leave out others are "
    "not compared on the same images.",
    "relabelled": "An image is decided where no label of it stays disputed. Lost all labels: everything shown was said "
    "no to. Refined: decided in the second stage.",
    "queue": "Doubtful labels: the lowest label quality score (cleanlab's self-confidence). Disagreement and "
    "uncertainty (entropy of the mean) are those of the ensemble that proposes. Only a random order gives rates, such "
    "as the share of images with several labels, that hold for the whole set.",
    "what_if": "Computed here from the votes that are saved but not committed, by the functions of the stage "
    "`consensus`, and nothing is written. Accuracy counts an answer as right if it is any of an image's labels; images "
    "without labels are left out. Intervals of changes come from resampling images, the same ones before and after.",
    "top1": "Share of all images whose original label is the model's first answer.",
    "several": "Images to which the source gives two labels or more. Of all images, those without labels among them, "
    "or of those that have a label: studies differ in this, so both are here.",
    "empty": "Images to which the source gives no label: those who looked found none of the offered classes, or could "
    "not agree. Any-of accuracy leaves them out; beside it they are counted wrong.",
    "holds": "Images whose labels from this source hold the original label.",
    "process": "Who or what made these labels, and how.",
    "strata": "Classes differ in how many labels their images have and in how hard they are. Within original classes, "
    "images are compared with the images of one label in the same class only, and the differences are pooled with the "
    "weights of Mantel and Haenszel; the interval has Sato's variance, made for many small classes.",
    "bins": "A number of labels has a point of its own where at least 50 images have it; the last point stands for "
    "itself and more.",
    "rho": "Spearman's rank correlation of the number of labels with being right, over images that have a label: "
    "below 0, models are right less often the more labels an image has. Interval by bootstrap over images. Within "
    "classes, ranks are centred in each original class first.",
    "removed": "Gap by top-1 (original labels, all images) minus gap by any-of, in percentage points, with a bootstrap "
    "interval that keeps both scorings of an image together.",
    "median": "The interval in brackets comes from resampling models: it says how the median depends on which models "
    "there are, no more.",
    "line": "Least squares over models, ensembles left out. Its interval comes from resampling models: it says how the "
    "line depends on which models there are, no more.",
}

HELP |= {
    "decomposition": "Images of both sets are sorted into bins by uncertainty, each with as many images of the "
    "original (20 bins unless params.yaml sets another number). **Composition**: what the gap would be if the model "
    "were as accurate in each bin as on the original, and only the shares of the bins differed. **Within**: the "
    "rest, lower accuracy on images of like uncertainty, weighted as the other set is. The two add up to the gap "
    "exactly. Kitagawa's decomposition (1955); its use here is this benchmark's own. It depends on the bins: where "
    "much of the other set is less certain than nearly all of the original, it lies in the last bin, and counts as "
    "within what finer bins would count as composition. Rule Matched weighs the bins as the original does, the other "
    "way. It says what the model knows of its doubt, not why images are harder.",
    "composition": "The part of the gap that goes with a larger share of images of which the model is unsure, at the "
    "accuracies that it has on the original.",
    "within": "The part of the gap on images of like uncertainty: the accuracy there is lower than on the original.",
    "label_term": "Gap by the original label minus gap by any label of the image, images without such a label left "
    "out. Gap by the original label = composition + within (by any label) + this. Where the labels of the two sets "
    "come from different processes, or leave out different images, it is no effect of labels alone.",
    "rule": "Definitions of this benchmark: the paper's abstract names no more than subsets chosen by uncertainty. "
    "**Same threshold** (R1): images at least as certain as the threshold that keeps the chosen share of the "
    "original; the other set may keep fewer. **Same coverage** (R2): the most certain share of each set by itself; "
    "it hides that the other set is less certain. **Matched** (R3): the images of R1, the other set weighted to the "
    "original's distribution of uncertainty. **Sure for others** (R4): images of which at least 90 % of the other "
    "models (or as params.yaml sets) are certain, or on which they agree; nearly the same images for every model. "
    "**Quadrants** (R5): all images, as certain or not, right or wrong. Thresholds come from the original alone; "
    "ties are broken by the sha256 of the image's id.",
    "whose": "Whose uncertainty chooses the images: that of each model itself, or of one for all, which leaves the "
    "same images to every model. Rule Sure for others asks all other models instead.",
    "keep": "Share of the original's images that the rule keeps, the most certain first.",
    "kept": "Share of the images of a set that the rule keeps.",
    "error_ratio": "Errors on the other set over errors on the original, both in percent of the images kept. Where a "
    "subset is so easy that accuracy is near 100 % on both sides, a gap in points must shrink; this ratio need not. "
    "Empty where no error is left on the original.",
    "logit_gap": "Log-odds of being right on the original minus on the other set: a difference that does not shrink "
    "by itself near 100 %. Empty where one of the accuracies is 0 or 100 %.",
    "placebo": "The gap on images drawn at random, as many of each set as the rule keeps. The line spans where 95 % "
    "of such draws fall.",
    "shrinks": "Models whose gap is smaller on these images than on all of them, ensembles left out; p by the sign "
    "test. Models share images and kin, so the p-value is too small.",
    "robustness": "Accuracy on the other set minus what a line gives for a model of its accuracy on the original "
    "(Taori et al. 2020). The line is fitted to the other models shown, anew for every choice of models (in a "
    "snapshot without single images: to all others); ensembles are in no line. Intervals: images of both sets "
    "resampled, lines fitted anew.",
    "contrast": "Gap of the self-supervised model minus gap of the supervised one of the same architecture, on the "
    "same resampled images. Below zero: it loses less.",
    "quadrants": "Certain: at least as sure as the threshold that keeps the chosen share of the original.",
    "axis": "On which axes a line is fitted: shares as they are, log-odds, or quantiles of the normal distribution.",
}

RADAR_ARCH = {"cnn3d": "3-D CNN", "cnnlstm": "CNN-LSTM", "cnnlstm-given": "CNN-LSTM told the length"}
"""Networks of sequences of range-Doppler maps, by their architecture."""
THREAT_MODEL = {
    1: "The victim itself",
    2: "Its architecture, other subjects",
    3: "Other architecture, same subjects",
    4: "Both other",
}
"""What an attacker of radar sequences has."""
RADAR_MASK = {"full": "All frames", "padding": "Padding alone", "action": "Action alone"}
RADAR_GOAL = {"untargeted": "Any other gesture", "targeted": "A gesture drawn before"}
RADAR_STEP = {"sign": "Sign steps", "l2": "Steps along the gradient"}
RADAR_SCOPE = {"all": "All frames, padding too", "action": "Frames of the action"}


def radar_network(model: str) -> str:
    """A network of sequences, by its architecture, without its group."""
    return RADAR_ARCH.get(model.rpartition("-")[0], model)


HELP |= {
    "radar_threat": "Whose gradient an attack follows; the victim is asked only afterwards. Subjects: the "
    "people on whose gestures both networks were trained. Small: Wilson's interval, and the same share where every "
    "value of the mask goes up or down by the largest change of the attack, at random. Threat models and masks are "
    "this benchmark's own definitions.",
    "radar_cam": "Spearman's correlation over frames of Grad-CAM (how much a frame of the clean sequence speaks for "
    "its gesture) with the length of the change in it, averaged over sequences. The null shifts one of both in a "
    "circle: a sequence has no more shifts than frames, so all of them, and 1,000 draws for the mean; p is one-sided. "
    "Sign steps change all values of a frame alike; steps along the gradient do not. Single values of a frame are not "
    "related, and of each kind one network was trained.",
    "radar_player": "Grad-CAM as a share of its largest value in the sequence. Change: of the attack with the "
    "network's own gradient, until any other gesture is answered.",
}
