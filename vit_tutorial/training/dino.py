"""DINO: a student learns to say of one view of a picture what its own average says of another (Caron et al. 2021)."""

import copy

import torch
import torch.nn.functional as F
from torch import nn


def random_views(images, least=0.4, jitter=0.4):
    """Another view of each image `(B, C, Y, X)`, normalised: a part of it, enlarged, perhaps mirrored, recoloured.

    The part has between `least` and all of the area. Every channel is multiplied by a factor and shifted, by up to
    `jitter`: colour and brightness say little of what there is to see.
    """
    B, C = images.shape[:2]
    draw = lambda *shape: torch.rand(shape, device=images.device)  # noqa: E731
    side = (least + (1 - least) * draw(B)).sqrt()  # of the part, as a share of the image's
    mirror = (draw(B) < 0.5).float() * 2 - 1
    corner = (2 * draw(2, B) - 1) * (1 - side)  # its middle, where the image reaches from -1 to 1
    zero = torch.zeros_like(side)
    theta = torch.stack([side * mirror, zero, corner[0], zero, side, corner[1]], dim=1).view(B, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    views = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    factor, shift = 1 + jitter * (2 * draw(2, B, C, 1, 1) - 1)
    return views * factor + (shift - 1)


def dino_loss(student, teacher, centre, student_temperature=0.1, teacher_temperature=0.04):
    """Cross-entropy of the student's answers `(B, K)` for one view with the teacher's `(B, K)` for another.

    The teacher's are centred, then sharpened by its low temperature; no gradient reaches it (eq. 1 and 3.1).
    """
    target = ((teacher - centre) / teacher_temperature).softmax(dim=1).detach()  # (B, K)
    return -(target * (student / student_temperature).log_softmax(dim=1)).sum(dim=1).mean()


@torch.no_grad()
def update_centre(centre, teacher, momentum=0.9):
    """Move `centre (K,)`, in place, towards the mean of the teacher's answers `(B, K)` (eq. 4)."""
    centre.lerp_(teacher.mean(dim=0), 1 - momentum)


@torch.no_grad()
def update_teacher(teacher, student, momentum=0.99):
    """Move every weight of the teacher, in place, a little towards the student's: an average over past steps."""
    for average, weight in zip(teacher.parameters(), student.parameters(), strict=True):
        average.lerp_(weight, 1 - momentum)


def entropies(teacher, centre, temperature):
    """How sure the teacher is, and how varied: entropies of its answers `(B, K)`, the mean and that of the mean.

    In nats, 0 .. ln K. Both near 0: it says the same of every picture; both near ln K: it says nothing of any.
    """
    p = ((teacher - centre) / temperature).softmax(dim=1)  # (B, K)
    entropy = lambda p: -torch.special.xlogy(p, p).sum(dim=-1)  # noqa: E731
    return entropy(p).mean().item(), entropy(p.mean(dim=0)).item()


class DINOHead(nn.Module):
    """Features `(B, D)` to answers `(B, K)`: an MLP, length 1, then the cosines with K prototypes (appendix C)."""

    def __init__(self, embed_dim, prototypes=256, hidden_dim=256, bottleneck_dim=64):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(embed_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, bottleneck_dim))
        self.last_layer = nn.Linear(bottleneck_dim, prototypes, bias=False)

    def forward(self, x):
        x = F.normalize(self.mlp(x), dim=1)  # (B, bottleneck)
        return x @ F.normalize(self.last_layer.weight, dim=1).T  # (B, K), in -1 .. 1


class DINO(nn.Module):
    """Images `(B, C, Y, X)`, normalised, to the loss of two views of each; `vit` is the student's body.

    `vit` has no head (`without_head`): it gives features `(B, D)`. The student learns by gradient, the teacher is its
    average; after each step `after_step` moves teacher and centre. `teacher.vit` is what is kept. `entropies` are the
    teacher's, of the last batch.
    """

    def __init__(
        self,
        vit,
        prototypes=256,
        momentum=0.99,
        centre_momentum=0.9,
        student_temperature=0.1,
        teacher_temperature=0.04,
    ):
        super().__init__()
        self.student = nn.ModuleDict({"vit": vit, "head": DINOHead(vit.config.embed_dim, prototypes)})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.momentum, self.centre_momentum = momentum, centre_momentum
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.answers = None  # the teacher's, of the last batch

    def draw(self, images):
        """What a step draws at random: two views of each image."""
        return random_views(images), random_views(images)

    def forward(self, images, drawn=None):
        views = torch.cat(drawn or self.draw(images))  # (2B, C, Y, X)
        student = answers(self.student, views).float()  # (2B, K)
        with torch.no_grad():
            teacher = answers(self.teacher, views).float()
        self.answers = teacher
        temperatures = self.student_temperature, self.teacher_temperature
        return dino_loss(student, teacher.roll(len(images), 0), self.centre, *temperatures)  # each view with the other

    def after_step(self):
        update_teacher(self.teacher, self.student, self.momentum)
        update_centre(self.centre, self.answers, self.centre_momentum)

    @property
    def entropies(self):
        return entropies(self.answers, self.centre, self.teacher_temperature)


def answers(network, views):
    return network["head"](network["vit"](views))  # (B, K)
