"""`adaptseg suggest`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from adaptseg.cli.parser import Parser
from adaptseg.errors import InputError
from adaptseg.labelling.names import CRITERIA, DEFAULT, FORMATS


def parser() -> Parser:
    """Return the arguments."""
    parser = Parser(
        "adaptseg suggest",
        "Choose the photographs of a folder that are worth labelling next, and write them with the run's predictions"
        " filled in, for annotation programs. What the run has labels of, or is evaluated on, is left out.",
        (
            "adaptseg suggest runs/mine photographs -n 10 --out to-label",
            "adaptseg suggest runs/mine photographs -n 20 --out to-label --format cvat,labelstudio",
            "adaptseg suggest runs/mine photographs -n 10 --labelled to-label --out to-label-2",
        ),
    )
    parser.add_model()
    parser.add_argument("folder", metavar="TARGET-FOLDER", help="photographs or films, as the target's root")
    parser.add_argument("-n", type=int, required=True, metavar="N", dest="count", help="how many to choose")
    parser.add_argument("--out", type=Path, required=True, help="new folder for them")
    parser.add_argument(
        "--by", choices=CRITERIA, default=DEFAULT, help=f"the criterion (docs/suggest.md); none: {DEFAULT}"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random; the other criteria have nothing random")
    parser.add_argument(
        "--labelled", action="append", default=[], metavar="FOLDER", help="images that are labelled already; repeatable"
    )
    parser.add_argument(
        "--format",
        default="png",
        metavar="LIST",
        help=f"programs for which the predictions are written, beside labels/: of {','.join(FORMATS)}",
    )
    return parser


def run(options: Namespace) -> None:
    """Choose the photographs to label next, predictions filled in, for annotation programs."""
    from adaptseg.atomic import folder_written_whole
    from adaptseg.labelling.annotations import ToLabel
    from adaptseg.labelling.exchange import chosen_formats, refuse_unwritable, write_formats, yaml_block
    from adaptseg.labelling.suggestion import open_images, suggest, write_suggestion
    from adaptseg.models.devices import choose_device
    from adaptseg.reports.suggestion import write_suggestion_page
    from adaptseg.segmenter.loading import load_model

    out: Path = options.out
    formats = chosen_formats(options.format)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is there already; name a new folder, so that no corrected label is lost")
    if Path(options.folder).resolve() in out.resolve().parents:
        raise InputError(f"--out {out}: lies in {options.folder}, where its masks would be photographs; name another")
    segmenter = load_model(options.model).to(choose_device(options.device))
    refuse_unwritable(segmenter.label_space, formats)
    images = open_images(options.folder, segmenter.value_range)
    labelled = [open_images(folder, segmenter.value_range) for folder in options.labelled]
    try:
        choice = suggest(segmenter, images, options.count, options.by, options.seed, labelled, options.model)
    except InputError as error:
        raise InputError(f"{options.folder}: {error}") from error
    said = {"model": options.model, "folder": options.folder, "criterion": options.by, "seed": options.seed}
    block = yaml_block(out, segmenter.label_space)
    with folder_written_whole(out) as partial:
        files = write_suggestion(segmenter, images, choice, partial, said)
        lines = write_formats(ToLabel(partial, files, segmenter.label_space), formats, out.absolute().name)
        write_suggestion_page(partial, segmenter.label_space, block, images.value_range)
    counts = ((choice.known, "labelled or evaluated"), (choice.copies, "copies"))
    left_out = ", ".join(f"{count} {what}" for count, what in counts if count)
    print(f"{options.count} of {choice.candidates} images by {options.by}{left_out and '; left out: ' + left_out}")
    print(f"written: {out}/images, labels; look at {out}/suggestion.html")
    for line in lines:
        print(line)
    print(f"\nCorrect the labels, then add to the experiment:\n\n{block}", end="")
