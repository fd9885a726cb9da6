"""A recipe: the model and every number of its training, in one place."""

from dataclasses import dataclass, replace

from ..model import ViTConfig
from ..weights.checkpoint import config_of, tuples

BELOW_ONE = 1 - 1e-9
RANGES = {  # field -> the least and the largest value that mean something
    "epochs": (1e-9, 1e9),
    "batch_size": (1, 1e9),
    "learning_rate": (0, 1e9),
    "muon_learning_rate": (0, 1e9),
    "weight_decay": (0, 1e9),
    "warmup": (0, 1),
    "clip_norm": (0, float("inf")),
    "label_smoothing": (0, 1),
    "ema": (0, BELOW_ONE),
    "crop": (0, 1e9),
    "patch_dropout": (0, BELOW_ONE),
    "cutmix": (0, 1),
    "clean_from": (0, 1),
    "body_rate": (0, 1e9),
    "layer_decay": (0, 1e9),
}
OFF_WITHOUT_LABELS = {  # what needs labels, or would do nothing without them
    "label_smoothing": 0.0,
    "ema": 0.0,
    "balanced": False,
    "patch_dropout": 0.0,
    "cutmix": 0.0,
    "compile": False,
    "body_rate": 1.0,
    "layer_decay": 1.0,
    "frozen": (),
}
OFF_FOR_MASKS = {"balanced": False, "patch_dropout": 0.0, "cutmix": 0.0, "without_labels": ""}
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Recipe:
    """What to train and how.

    `epochs` are passes over the data. `learning_rate` is AdamW's peak, `muon_learning_rate` that of Muon for the
    matrices of the encoder blocks, 0 where AdamW trains these too. `warmup` is the fraction of training in which the
    learning rates rise. `ema` is the decay of the exponential moving average of the weights, 0 for none. `crop` is the
    largest shift in pixels of the random crop, `flip` whether images may be mirrored.
    With `balanced` every class is drawn equally often, on the mean: pictures of a rare class several times an epoch.

    `patch_dropout` is the fraction of the patches that training leaves out, `cutmix` the fraction of the batches whose
    images are mixed; both end at the fraction `clean_from` of the run. `initialise` names what starts in closed form,
    not at random: "patches", "positions". `compile` says whether torch compiles the model first.

    Three fields for a trained model that learns new classes. `body_rate` is the factor of the learning rate of all but
    the head, 0 where the head alone learns; `layer_decay` a factor for each layer from the head down. `frozen` names
    parts that keep their values, such as "patch_embed" or "blocks.0".

    `without_labels` is "mae" or "dino" where the model is to learn without labels (He et al. 2022, Caron et al. 2021).
    """

    model: ViTConfig
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 2e-3
    muon_learning_rate: float = 0.0
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip_norm: float = 1.0
    label_smoothing: float = 0.05
    ema: float = 0.99
    crop: int = 4
    flip: bool = True
    balanced: bool = False
    patch_dropout: float = 0.0
    cutmix: float = 0.0
    clean_from: float = 0.75
    initialise: tuple[str, ...] = ()
    compile: bool = False
    body_rate: float = 1.0
    layer_decay: float = 1.0
    frozen: tuple[str, ...] = ()
    without_labels: str = ""

    def __post_init__(self):
        if not isinstance(self.model, ViTConfig):
            raise ValueError(f"expected the model's ViTConfig, found {self.model!r}")
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not least <= value <= most:  # NaN is in no range
                raise ValueError(f"expected the recipe's {name} in {least} .. {most}, found {value!r}")
        for name in ("batch_size", "crop"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"expected the recipe's {name} to be an integer, found {getattr(self, name)!r}")
        for name in ("flip", "balanced", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"expected the recipe's {name} to be True or False, found {getattr(self, name)!r}")
        if not set(self.initialise) <= {"patches", "positions"}:
            raise ValueError(f"expected initialise to name patches or positions, found {self.initialise!r}")
        if self.without_labels not in ("", "mae", "dino"):
            raise ValueError(f"expected without_labels to be mae, dino or empty, found {self.without_labels!r}")
        for name, off in OFF_WITHOUT_LABELS.items() if self.without_labels else ():
            if getattr(self, name) != off:
                raise ValueError(
                    f"expected {name} to be {off!r} in a recipe without labels, found {getattr(self, name)!r}"
                )

    @classmethod
    def from_record(cls, values):
        """The recipe whose record (`dataclasses.asdict`, perhaps through JSON) is `values`.

        Raises `ValueError` where that is none.
        """
        try:
            return cls(**{**tuples(values), "model": config_of(values["model"])})
        except (TypeError, AttributeError, KeyError, OverflowError) as error:
            raise ValueError(f"expected the record of a recipe, found another or a damaged one ({error})") from None

    def config(self, dataset):
        """The recipe's model for a dataset's image size, channels, classes and range of values."""
        return replace(
            self.model,
            image_size=dataset.image_size,
            in_channels=dataset.images.shape[1],
            num_classes=len(dataset.classes),
            classes=dataset.classes,
            value_range=dataset.value_range,
        )


SMALL = ViTConfig(image_size=32, patch_size=4, num_classes=10, embed_dim=96, depth=4, num_heads=4, mlp_ratio=2.0)
CIFAR10 = Recipe(
    model=replace(SMALL, depth=6, num_heads=3, pool="mean", mean=CIFAR10_MEAN, std=CIFAR10_STD),
    epochs=25,
    muon_learning_rate=1e-2,
    weight_decay=0.1,
    warmup=0.05,
    ema=0.0,
    crop=2,
    patch_dropout=0.5,
    initialise=("patches", "positions"),
)
COURSE_MODEL = replace(CIFAR10.model, embed_dim=128, num_heads=4, pool="cls")  # the checkpoint that the course ships
FINE_TUNE = Recipe(
    model=COURSE_MODEL,
    epochs=20,
    batch_size=32,
    learning_rate=2e-3,
    ema=0.0,
    crop=2,
    label_smoothing=0.0,
    layer_decay=0.8,
)
WITHOUT_LABELS = Recipe(
    model=replace(SMALL, patch_size=8, pool="mean"),
    batch_size=128,
    muon_learning_rate=1e-2,
    without_labels="mae",
    **OFF_WITHOUT_LABELS,
)
RECIPES = {
    "shapes": Recipe(model=SMALL, epochs=6, batch_size=64, muon_learning_rate=2e-2, weight_decay=0.01, crop=2),
    "fine-tune": FINE_TUNE,
    "probe": replace(FINE_TUNE, learning_rate=1e-2, layer_decay=1.0, body_rate=0.0),
    "cifar10-laptop": CIFAR10,
    "cifar10-course": replace(  # for looking inside: a class token, and positions that nobody arranged
        CIFAR10, model=COURSE_MODEL, crop=4, initialise=("patches",)
    ),
    "cifar10-gpu": replace(
        CIFAR10,
        model=replace(CIFAR10.model, embed_dim=384, depth=7, num_heads=6, mlp_ratio=4.0, drop_path=0.1),
        epochs=100,
        batch_size=1024,
        muon_learning_rate=2e-2,
        weight_decay=0.02,
        label_smoothing=0.1,
        ema=0.998,
        crop=4,
        cutmix=0.5,
        clean_from=0.85,
        compile=True,
    ),
    "segment": Recipe(
        model=replace(SMALL, patch_size=8),
        epochs=6,
        batch_size=32,
        learning_rate=3e-3,
        muon_learning_rate=2e-2,
        weight_decay=0.01,
        label_smoothing=0.0,
        ema=0.0,
        crop=2,
    ),
    "mae": replace(WITHOUT_LABELS, crop=2),
    "dino": replace(WITHOUT_LABELS, crop=0, flip=False, without_labels="dino"),  # its views are augmentation enough
}
