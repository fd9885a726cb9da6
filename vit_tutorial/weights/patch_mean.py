"""A Vision Transformer whose head reads the mean of the patches, whether or not there is a class token."""

from ..model import VisionTransformer


class PatchMeanViT(VisionTransformer):
    """A `VisionTransformer` whose head reads the mean of the patch tokens: timm's `global_pool="avg"`.

    With `norm_last` that mean is normalised, not each token: so are models fine-tuned after MAE (He et al. 2022), and
    BEiT's (Bao et al. 2022). `config.pool` says whether there is a class token ("cls") or not ("mean").
    """

    def __init__(self, config, norm_last=True):
        super().__init__(config)
        self.norm_last = norm_last

    def forward_features(self, images):
        x = self.embed(images)  # (B, N, D)
        for block in self.blocks:
            x = block(x)
        return x  # (B, N, D), not normalised

    def read(self, x):
        """From the tokens after the last block `(B, N, D)` to the logits `(B, num_classes)`."""
        x = x if self.norm_last else self.norm(x)
        x = x[:, int(self.cls_token is not None) :].mean(dim=1)  # (B, D), of the patches that training has not left out
        return self.head(self.norm(x) if self.norm_last else x)  # (B, num_classes)

    def forward(self, images):
        return self.read(self.forward_features(images))
