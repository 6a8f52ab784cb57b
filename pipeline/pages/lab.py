"""The lab's page: the course notebook reproduced, task by task."""

import statistics
from collections.abc import Sequence

from pipeline.lab import notebook
from pipeline.lab.reproduce import Reproduction
from pipeline.lab.trials import spread
from pipeline.lab.twins import Times, Twins
from pipeline.pages.lab_pictures import data_section, filters_section, pooling_section
from pipeline.pages.lab_training import network_section, training_section
from pipeline.pages.page import Page, Section, Table

WIDE_SDS = 3.0
"""How far one training may lie from the mean of five: the 95 % bound of Student's t for a sixth is 3.04 sd."""

DEPARTURES = (
    (
        "ConvolutionalFilter2D keeps its taps in a plain tensor",
        "they are a Parameter: they learn, and move with .to(device)",
    ),
    (
        "CNN1 fails for L > 1: a filter takes (B, M, N) and gives (B, G, M, N)",
        "a layer maps F features to G, equation (5), so layers follow one another",
    ),
    (
        "pool windows are N_{l-1} // N_l, the floor: 28 → 14 → 5 is accepted, and pools to 7",
        "sizes that do not divide are refused, with the sizes in the message",
    ),
    ("the text has F_0 = 3 in Task 2, the code F_0 = 1", "F_0 = 1, so that each image is seen alone"),
    ("H^{f2} in the text is the negative of the code's", "the text's; the page shows both"),
    ("equations (7) and (8) exchange x(u, v) and w(m, n)", "read as x(m, n), the result, from w(u, v), the pixels"),
    (
        "a comment promises a learning rate of 0.03 and 20 epochs, the code has 0.01 and 5",
        "the code's, which made the printed figures",
    ),
    (
        "a readout drawn from N(0, 1)",
        "kept on this page, to compare; the product's own preset divides it by √(F_L N_L²)",
    ),
    (
        "the test images are looked at after every epoch, and no others are held back",
        "done on this page alone; the product decides by validation images and reads the test images once",
    ),
    ("Task 5 asks for train loss and test loss, the code computes neither", "both are computed after the training"),
    (
        "each image passes alone through its transforms, in every epoch",
        "the data set lies on the device, and is normalised in the network: the same numbers, sooner",
    ),
)


def lab_page(lab: Reproduction, command: str) -> Page:
    """Lay out what was reproduced; `command` is what a reader types to do it again."""
    verdict, is_good = judge(lab)
    return Page(
        title="The lab: MNIST digits with CNNs",
        verdict=verdict,
        is_good=is_good,
        sections=(
            data_section(lab.samples, lab.summary),
            twins_section(lab),
            filters_section(lab.filtered),
            pooling_section(lab.pooled),
            network_section(lab.preset),
            training_section(lab.trials, lab.preset),
            Section("Where this departs from the notebook", (Table(("the notebook", "here"), DEPARTURES),)),
            _origin_section(lab, command),
        ),
    )


def judge(lab: Reproduction) -> tuple[str, bool]:
    """Say whether the notebook's accuracy comes out again, and whether all is well: both ways compute the same too."""
    theirs, ours = 100 * notebook.FINAL_ACCURACY, spread(100 * trial.evaluation.accuracy for trial in lab.trials)
    is_near = abs(theirs - ours.mean) <= WIDE_SDS * ours.sd
    far = f"{abs(theirs - ours.mean):.2f} points away"
    verdict = (
        f"The notebook's result {'comes' if is_near else 'does not come'} out again: it was right on {theirs:.2f} % of "
        f"the test images; here it is {ours.mean:.2f} % on average over {len(lab.trials)} seeds (sd {ours.sd:.2f}, "
        f"{ours.least:.2f} to {ours.most:.2f} %), {far}."
    )
    return verdict, is_near and all(twins.are_equal for twins in lab.twins)


def twins_section(lab: Reproduction) -> Section:
    """Task 1 twice: both ways compute the same, and take their time."""
    threads = "one thread" if lab.origin.threads == 1 else f"{lab.origin.threads} threads"
    ratios = [times.ratio for twins in lab.twins for times in (twins.forward, twins.both)]
    are_equal = all(twins.are_equal for twins in lab.twins)
    farthest = max(twins.difference for twins in lab.twins)
    return Section(
        "Task 1: two implementations of the CNN, equations (1) to (5)",
        (
            (
                "The lab writes a convolution as a sum of shifted images, and pooling as rolled images of which "
                "some pixels are kept. torch has both built in. Here both get the same weights and the same images, "
                "and their outputs and gradients are compared."
            ),
            (
                f"{'They compute the same' if are_equal else 'They do NOT compute the same'}: in float64 they are at "
                f"most {_share(farthest)} of the largest number apart. float32, with seven digits, rounds earlier."
            ),
            _difference_table(lab.twins),
            (
                f"The lab's way takes {min(ratios):.1f} to {max(ratios):.1f} times as long as torch's: ms for a "
                f"batch of {lab.preset.training.batch_size} images in float32, {threads}, {lab.origin.device}, "
                f"medians of {lab.twin_rounds} rounds in turn. Pooling is that behind the first layer. A training "
                "step goes forward and backward, and then moves the weights."
            ),
            _times_table(lab.twins),
        ),
    )


def _difference_table(pairs: Sequence[Twins]) -> Table:
    rows = [
        (twins.what, twins.lab, twins.torch, _share(twins.difference), _share(twins.difference_float32))
        for twins in pairs
    ]
    return Table(("", "the lab's", "torch's", "float64", "float32"), rows, "Largest differences, as shares.")


def _share(difference: float) -> str:
    return f"{difference:.1e}" if difference else "0"


def _times_table(pairs: Sequence[Twins]) -> Table:
    rows = [
        (f"{twins.what}, {direction}", *_times(times))
        for twins in pairs
        for direction, times in (("forward", twins.forward), ("forward and backward", twins.both))
    ]
    return Table(("", "lab, ms", "torch, ms", "ratio"), rows, "Time of a batch.")


def _times(times: Times) -> tuple[str, str, str]:
    return f"{times.lab_ms:.2f}", f"{times.torch_ms:.2f}", f"{times.ratio:.1f}"


def _origin_section(lab: Reproduction, command: str) -> Section:
    origin = lab.origin
    took_s = [trial.duration_s for trial in lab.trials]
    versions = ", ".join(f"{name} {number}" for name, number in origin.versions.items())
    rows = (
        ("command", command),
        ("date", origin.created),
        (
            "took",
            (
                f"{origin.duration_s:.0f} s, of which {sum(took_s):.0f} s training (median "
                f"{statistics.median(took_s):.1f} s)"
            ),
        ),
        ("device", f"{origin.device}, threads: {origin.threads}"),
        ("seeds", ", ".join(str(trial.seed) for trial in lab.trials)),
        ("preset", f"{lab.preset.name}: {lab.preset.description}"),
        ("versions", versions),
        ("code", origin.revision),
        ("data", f"{lab.dataset.name}, {lab.dataset.source}"),
        *((f"sha256 of {name}", digest) for name, digest in lab.dataset.sha256.items()),
    )
    same = "On a CPU the same seeds, versions and number of threads give the same accuracy, to the last digit."
    return Section("How this page was made", (same, Table(("what", "value"), rows)))
