"""The README of a published model: what it is, what it was trained on, how good it is, how to use and cite it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from adaptseg.text import for_markdown


class Paper(NamedTuple):
    """A method's paper."""

    key: str
    authors: str
    title: str
    venue: str
    year: int
    arxiv: str

    @property
    def bibtex(self) -> str:
        """The entry for a bibliography."""
        fields = {
            "title": self.title,
            "author": self.authors,
            "booktitle": self.venue,
            "year": self.year,
            "note": f"arXiv:{self.arxiv}",
        }
        lines = [f"  {name:<9} = {{{value}}}," for name, value in fields.items()]
        return "\n".join([f"@inproceedings{{{self.key},", *lines, "}"])


CVPR = "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)"
ADAPTSEGNET = Paper(
    "tsai2018learning",
    "Tsai, Yi-Hsuan and Hung, Wei-Chih and Schulter, Samuel and Sohn, Kihyuk and Yang, Ming-Hsuan and"
    " Chandraker, Manmohan",
    "Learning to Adapt Structured Output Space for Semantic Segmentation",
    CVPR,
    2018,
    "1802.10349",
)
ADVENT = Paper(
    "vu2019advent",
    "Vu, Tuan-Hung and Jain, Himalaya and Bucher, Maxime and Cord, Matthieu and P{\\'e}rez, Patrick",
    "{ADVENT}: Adversarial Entropy Minimization for Domain Adaptation in Semantic Segmentation",
    CVPR,
    2019,
    "1811.12833",
)
MAXSQUARE = Paper(
    "chen2019domain",
    "Chen, Minghao and Xue, Hongyang and Cai, Deng",
    "Domain Adaptation for Semantic Segmentation with Maximum Squares Loss",
    "IEEE/CVF International Conference on Computer Vision (ICCV)",
    2019,
    "1909.13589",
)
FDA = Paper(
    "yang2020fda",
    "Yang, Yanchao and Soatto, Stefano",
    "{FDA}: {F}ourier Domain Adaptation for Semantic Segmentation",
    CVPR,
    2020,
    "2004.05498",
)
DACS = Paper(
    "tranheden2021dacs",
    "Tranheden, Wilhelm and Olsson, Viktor and Pinto, Juliano and Svensson, Lennart",
    "{DACS}: Domain Adaptation via Cross-Domain Mixed Sampling",
    "IEEE/CVF Winter Conference on Applications of Computer Vision (WACV)",
    2021,
    "2007.08702",
)
DAFORMER = Paper(
    "hoyer2022daformer",
    "Hoyer, Lukas and Dai, Dengxin and Van Gool, Luc",
    "{DAFormer}: Improving Network Architectures and Training Strategies for Domain-Adaptive Semantic Segmentation",
    CVPR,
    2022,
    "2111.14887",
)
MIC = Paper(
    "hoyer2023mic",
    "Hoyer, Lukas and Dai, Dengxin and Wang, Haoran and Van Gool, Luc",
    "{MIC}: Masked Image Consistency for Context-Enhanced Domain Adaptation",
    CVPR,
    2023,
    "2212.01322",
)
VFM_UDA = Paper(
    "englert2024exploring",
    "Englert, Brunó B. and Piva, Fabrizio J. and Kerssies, Tommie and de Geus, Daan and Dubbelman, Gijs",
    "Exploring the Benefits of Vision Foundation Models for Unsupervised Domain Adaptation",
    "CVPR Workshops",
    2024,
    "2406.09896",
)
DISTILLATION = Paper(
    "hinton2015distilling",
    "Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff",
    "Distilling the Knowledge in a Neural Network",
    "NIPS Deep Learning and Representation Learning Workshop",
    2015,
    "1503.02531",
)
PAPERS: dict[str, tuple[Paper, ...]] = {
    "source_only": (),
    "adaptsegnet": (ADAPTSEGNET,),
    "feature_level": (ADAPTSEGNET,),
    "minent": (ADVENT,),
    "advent": (ADVENT,),
    "maxsquare": (MAXSQUARE,),
    "fda": (FDA,),
    "dacs": (DACS,),
    "daformer": (DAFORMER, DACS),
    "mic": (MIC, DAFORMER, DACS),
    "vfm_uda": (VFM_UDA, DACS),
    "distill": (DISTILLATION,),
}
"""By method; the ones a method is built of come after its own."""


def papers(card: Mapping[str, Any]) -> list[Paper]:
    """Return what to cite for a model: its method's papers, and FDA's where its style transfer was in front."""
    styled = (FDA,) if card.get("fourier_beta") else ()
    return list(dict.fromkeys((*PAPERS.get(card.get("method", ""), ()), *styled)))


def model_card(card: Mapping[str, Any]) -> str:
    """Return the README.md of an exported model.

    Args:
        card: as `adaptseg.segmenter.hub.export_card` returns it; what it does not know is left out.
    """
    sections = (_head(card), _use(card), _classes(card), _training(card), _license(card), _citation(card))
    lines = [line for section in sections for line in section]
    return f"---\n{_front_matter(card)}\n---\n\n" + "\n".join(lines).rstrip("\n") + "\n"


def _front_matter(card: Mapping[str, Any]) -> str:
    """Return the YAML that the hub searches and shows."""
    from huggingface_hub import EvalResult, ModelCardData

    data: dict[str, Any] = {}
    if "miou" in card:
        score = EvalResult(
            task_type="image-segmentation",
            dataset_type=card["evaluation"]["layout"],
            dataset_name=card["evaluation"]["text"],
            metric_type="mean_iou",
            metric_name=f"mIoU over {card['protocol']['name']}",
            metric_value=round(card["miou"], 4),
        )
        data = {"model_name": _title(card), "eval_results": [score]}
    tags = ["semantic-segmentation", "domain-adaptation", *([card["method"]] if "method" in card else [])]
    return ModelCardData(
        license=card.get("license"),
        library_name="adaptseg",
        pipeline_tag="image-segmentation",
        tags=tags,
        **data,
    ).to_yaml()


def _title(card: Mapping[str, Any]) -> str:
    return str(card.get("description") or f"Semantic segmentation, {len(card['classes'])} classes")


def _head(card: Mapping[str, Any]) -> Iterator[str]:
    model = card["model"]
    yield f"# {for_markdown(_title(card))}"
    yield ""
    yield f"Gives each pixel of a photograph one of {len(card['classes'])} classes. {_network(model)}."
    if card.get("target"):
        labelled, unlabelled = ("labelled images of one domain", "unlabelled ones of another")
        if not card.get("source"):
            labelled, unlabelled = "a few labelled images", "unlabelled ones of the same domain"
        yield f"Trained on {labelled}, adapted to {unlabelled} by `{card['method']}`."
    yield ""


def _network(model: Mapping[str, Any]) -> str:
    if model.get("factory"):
        return f"The network is its author's own, {for_markdown(model['factory'])}"
    with_head = model["backbone"].startswith(("mit", "dino", "efficientnet"))
    head = f"{model['head'] or 'light'} decode head" if with_head else "DeepLab-v2"
    return f"{model['backbone']} (width {model['width']}), {head}"


def _use(card: Mapping[str, Any]) -> Iterator[str]:
    own = bool(card["model"].get("factory"))
    network = ", network=NETWORK" if own else ""
    yield from (
        "## Use",
        "",
        "```python",
        "import adaptseg",
        "",
        f'segmenter = adaptseg.Segmenter.from_pretrained("FOLDER-OR-USER/MODEL"{network})',
        'train_ids = segmenter.predict("photo.jpg")  # uint8 (H, W); names in segmenter.label_space.classes',
        "```",
        "",
        "NETWORK is the torch.nn.Module whose weights these are; its code is not here."
        if own
        else "`model.safetensors` and `config.json` hold everything; no code is run to load them.",
        "",
    )


def _classes(card: Mapping[str, Any]) -> Iterator[str]:
    scores = card.get("iou")
    yield "## Classes" + (" and scores" if scores or "miou" in card else "")
    yield ""
    if "miou" in card:
        accuracy = f", pixel accuracy {100 * card['pixel_accuracy']:.1f} %" if "pixel_accuracy" in card else ""
        protocol = card["protocol"]
        yield (
            f"mIoU **{100 * card['miou']:.1f} %** over the {len(protocol['classes'])} classes of protocol"
            f" {for_markdown(protocol['name'])}{accuracy}. Evaluated on {for_markdown(card['evaluation']['text'])},"
            f" after iteration {card['step']}."
        )
        yield ""
    yield "| id | class | colour |" + (" IoU, % |" if scores else "")
    yield "| ---: | --- | --- |" + (" ---: |" if scores else "")
    for index, (name, color) in enumerate(zip(card["classes"], card["palette"], strict=True)):
        value = scores.get(name) if scores else None
        score = f" {'–' if value is None else format(100 * value, '.1f')} |" if scores else ""
        yield f"| {index} | {for_markdown(name)} | `#{bytes(color).hex()}` |{score}"
    yield ""
    if "miou" not in card:
        yield "It comes without figures: no evaluation of these weights was found beside them."
        yield ""


def _training(card: Mapping[str, Any]) -> Iterator[str]:
    if "method" not in card:
        return
    yield "## Training"
    yield ""
    roles = {
        "source": "labelled",
        "target": "its labels were not used",
        "target_labelled": f"{card['labelled']} images, labelled" if "labelled" in card else "labelled",
    }
    for role, says in roles.items():
        if card.get(role):
            yield f"- {role.replace('_', ' ')}: {for_markdown(card[role]['text'])} ({says})"
    steps = f", {card['step']} iterations" if "step" in card else ""
    yield f"- method `{card['method']}`{steps}, seed {card['seed']}, adaptseg {card['adaptseg']}"
    yield ""


def _license(card: Mapping[str, Any]) -> Iterator[str]:
    yield "## Licence"
    yield ""
    stated = (
        f"The weights: {for_markdown(card['license'])}."
        if "license" in card
        else "The licence of the weights is not stated."
    )
    yield f"{stated} Data sets have licences of their own, which may bind models trained on them."
    yield ""


def _citation(card: Mapping[str, Any]) -> Iterator[str]:
    if papers(card):
        yield from ("## Citation", "", "```bibtex", "\n\n".join(paper.bibtex for paper in papers(card)), "```")
