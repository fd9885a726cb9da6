"""interpret.record, rollout, features on three libraries' models, fused attention or not; what they leave behind.

pytest tests/test_interpret_recording.py -k cost -s      # prints what the rollout adds to the forward pass
"""

import copy
import gc
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from vit_tutorial import VisionTransformer, ViTConfig, interpret, weights

L, B, H, D, CLASSES = 3, 2, 2, 16, 5
SIZES = {"embed_dim": D, "depth": L, "num_heads": H, "mlp_ratio": 2.0, "num_classes": CLASSES}


def ours(**options):
    return VisionTransformer(ViTConfig(image_size=(16, 24), patch_size=8, **SIZES | options))


def of_timm(**options):
    return timm.models.VisionTransformer(img_size=(16, 24), patch_size=8, **SIZES | options)


def of_torchvision(heads=None):
    model = torchvision.models.VisionTransformer(16, 8, L, H, D, 2 * D, dropout=0.1, num_classes=CLASSES)
    model.heads = heads or model.heads
    return model


def unfused():
    model = of_timm()
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


MAKERS = {
    "ours": ours,
    "ours, mean": lambda: ours(pool="mean"),
    "ours, dropout": lambda: ours(dropout=0.3, drop_path=0.3),
    "timm": of_timm,
    "timm, unfused": unfused,
    "timm, registers": lambda: of_timm(reg_tokens=4, no_embed_class=True),
    "timm, mean": lambda: of_timm(class_token=False, global_pool="avg"),
    "timm, pooled by attention": lambda: of_timm(class_token=False, global_pool="map"),
    "timm, query norms": lambda: of_timm(qk_norm=True, init_values=0.5),
    "torchvision": of_torchvision,
    "torchvision, a head of its own": lambda: of_torchvision(nn.Sequential(nn.Dropout(0.1), nn.Linear(D, CLASSES))),
}


def blocks_of(model):
    return model.encoder.layers if hasattr(model, "encoder") else model.blocks


@pytest.fixture(params=MAKERS)
def model(request):
    """Each block's attention is another, and none is nearly uniform."""
    torch.manual_seed(0)
    model = MAKERS[request.param]()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.5)
    for i, block in enumerate(blocks_of(model)):
        for name, parameter in block.named_parameters():
            if "qkv.weight" in name or "in_proj_weight" in name:
                parameter.data *= 1 + i / 2
    return model.eval()


def images_for(model, count=B):
    return torch.randn(count, 3, 16, 16 if hasattr(model, "conv_proj") else 24)


def weights_elsewhere(model, images):
    """Attention weights by another way: torchvision's own output of them, or qkv split and multiplied head by head."""
    found = []

    def by_torchvision(layer, inputs, options, output):
        found.append(type(layer).forward(layer, *inputs, need_weights=True, average_attn_weights=False)[1])

    def by_hand(layer, inputs, options, output):
        q, k, _ = layer.qkv(inputs[0]).split(D, dim=-1)
        heads = []
        for mine in (slice(h * D // H, (h + 1) * D // H) for h in range(H)):
            queries, keys = q[..., mine], k[..., mine]
            if hasattr(layer, "q_norm"):
                queries, keys = layer.q_norm(queries), layer.k_norm(keys)
            e = torch.exp(torch.einsum("bid,bjd->bij", queries, keys) / (D // H) ** 0.5)
            heads.append(e / e.sum(dim=-1, keepdim=True))
        found.append(torch.stack(heads, dim=1))

    hooks = []
    for block in blocks_of(model):
        layer, hook = (
            (block.self_attention, by_torchvision) if hasattr(block, "self_attention") else (block.attn, by_hand)
        )
        hooks.append(layer.register_forward_hook(hook, with_kwargs=True))
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)


def test_attention_is_that_of_an_independent_computation(model):
    images = images_for(model)
    attention = interpret.record(model, images)
    assert attention.shape[:3] == (L, B, H) and attention.shape[3] == attention.shape[4] and not attention.requires_grad
    assert torch.allclose(attention, weights_elsewhere(model, images), atol=1e-5)
    spread = attention.flatten(1).std(dim=1)
    assert (spread > 0.02).all() and attention.diff(dim=0).abs().amax(dim=(1, 2, 3, 4)).min() > 0.1  # layers differ


def test_streaming_rollout_is_the_rollout_of_the_recorded_attention(model):
    images = images_for(model)
    for options in ({}, {"fuse": "max", "discard": 0.5}):
        expected = interpret.attention_rollout(interpret.record(model, images), **options)
        assert torch.allclose(interpret.rollout(model, images, **options), expected, atol=1e-6)


def test_gradients_are_slopes_of_the_logit_layer_by_layer(model):
    """Double precision: a push of the weights of one layer moves the logit as that layer's gradients say."""
    model, images, target = model.double(), images_for(model).double(), torch.tensor([3, 1])
    attention, gradients = interpret.record(model, images, target)
    assert gradients.shape == attention.shape and not attention.requires_grad
    pushes = torch.randn_like(attention)
    for pushed in range(L):
        logits = []
        for size in (1e-5, -1e-5):
            pushes_left = iter(size * push * (i == pushed) for i, push in enumerate(pushes))
            watch = lambda w, left=pushes_left: w + next(left)  # noqa: E731
            with torch.no_grad(), interpret.recording.watched_attention(model, watch) as seen:
                logits.append(seen(images)[range(B), target])
        slope = (logits[0] - logits[1]) / 2e-5
        expected = (gradients[pushed] * pushes[pushed]).sum(dim=(1, 2, 3))
        assert torch.allclose(slope, expected, rtol=1e-4, atol=1e-7) and slope.abs().min() > 1e-6
    assert torch.equal(model(images).argmax(dim=1), predicted := model(images).argmax(dim=1))
    assert torch.equal(interpret.record(model, images, "predicted")[1], interpret.record(model, images, predicted)[1])


def test_a_batch_gives_what_single_images_give(model):
    images = images_for(model, 3)
    attention, gradients = interpret.record(model, images, [0, 4, 2])
    for i, target in enumerate([0, 4, 2]):
        one, slopes = interpret.record(model, images[i : i + 1], [target])
        assert torch.allclose(one[:, 0], attention[:, i], atol=1e-5)
        assert torch.allclose(slopes[:, 0], gradients[:, i], atol=1e-4, rtol=1e-3)
    for function in (interpret.features, interpret.logit_lens):
        singles = torch.cat([function(model, image[None]) for image in images], dim=1)
        assert torch.allclose(function(model, images), singles, atol=1e-4, rtol=1e-4)


def test_features_are_every_blocks_tokens_and_the_last_of_the_logit_lens_are_the_logits(model):
    images = images_for(model)
    tokens = interpret.features(model, images)
    blocks = blocks_of(model)
    assert tokens.shape[:2] == (L + 1, B) and tokens.shape[3] == D and not tokens.requires_grad
    with torch.no_grad():
        for i, block in enumerate(blocks):
            assert torch.allclose(block(tokens[i]), tokens[i + 1], atol=1e-5)
        logits = model(images)
    lens = interpret.logit_lens(model, images)
    assert lens.shape == (L + 1, B, CLASSES) and torch.allclose(lens[-1], logits, atol=1e-5)
    assert (lens[0] - logits).abs().max() > 1e-3
    assert torch.allclose(interpret.token_norms(model, images), tokens.square().sum(dim=-1).sqrt())


def state(model):
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    modes = [(module.training, getattr(module, "fused_attn", None), sorted(vars(module))) for module in model.modules()]
    parameters = [(parameter.requires_grad, parameter.grad, parameter._version) for parameter in model.parameters()]
    torch_itself = F.scaled_dot_product_attention, torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()
    return hooks, modes, parameters, torch_itself, torch.get_rng_state().tolist()


CALLS = {
    "record": interpret.record,
    "gradients": lambda model, images: interpret.record(model, images, "predicted"),
    "rollout": interpret.rollout,
    "features": interpret.features,
    "logit_lens": interpret.logit_lens,
    "occlusion": lambda model, images: interpret.occlusion(model, images, "predicted", 8, 8),
    "integrated_gradients": lambda model, images: interpret.integrated_gradients(model, images, "predicted", 2),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_model_is_left_as_it_was_found(model, call):
    images = images_for(model)
    model.train()  # dropout would show, and our attention is not fused in training
    blocks_of(model)[1].eval()
    blocks_of(model)[0].register_forward_hook(lambda *_: None)
    list(model.parameters())[3].requires_grad_(False)
    before = state(model)
    call(model, images)
    assert state(model) == before
    with pytest.raises((ValueError, RuntimeError, AssertionError, TypeError)):
        call(model, images[:, :2])  # a channel less: the model raises
    assert state(model) == before
    call(model.requires_grad_(False), images)
    with torch.no_grad():
        call(model, images)


def compiled_inside(model):
    model.blocks[1] = torch.compile(model.blocks[1])
    model.compile()
    return model


WRAPPERS = {"compiled": torch.compile, "parallel": nn.DataParallel, "compiled inside": compiled_inside}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("make", [ours, of_timm])
def test_wrapped_models_are_the_same_and_left_wrapped(make, wrap):
    model = make().eval()
    images, wrapped = images_for(model), wrap(copy.deepcopy(model))
    for name in ("record", "rollout", "features", "logit_lens", "token_norms"):
        function = getattr(interpret, name)
        torch.testing.assert_close(function(wrapped, images), function(model, images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(CALLS["occlusion"](wrapped, images), CALLS["occlusion"](model, images))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [ours, of_timm, of_torchvision])
def test_models_of_16_bits_get_pixels_of_16_bits(make, dtype):
    model = make().eval()
    images, half = images_for(model), copy.deepcopy(model).to(dtype)
    for name, call in CALLS.items():
        found, expected = call(half, images), call(model, images)
        for one, other in zip(*(x if isinstance(x, tuple) else [x] for x in (found, expected)), strict=True):
            assert (one.float() - other).abs().max() < 0.05, name


def test_transformers_models_are_taken():
    transformers = pytest.importorskip("transformers")
    sizes = {"image_size": 16, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, intermediate_size=32)).eval()
    images, ours_ = torch.randn(2, 3, 16, 16), weights.from_transformers(model)
    assert torch.equal(interpret.record(model, images), interpret.record(ours_, images))
    torch.testing.assert_close(CALLS["occlusion"](model, images), CALLS["occlusion"](ours_, images))


def test_bytes_that_nobody_normalised_are_refused():
    with pytest.raises(ValueError, match="expected normalised images, found torch.uint8; vit_tutorial.normalise"):
        interpret.record(ours(), torch.zeros(1, 3, 16, 24, dtype=torch.uint8))


@pytest.mark.parametrize("fast", [True, False])
def test_attention_is_found_whichever_way_torch_would_have_taken(fast):
    """Hooks on `attn_drop`, as public code has them, find nothing where attention is fused; so it is on by default."""
    model, seen = of_timm().eval(), []
    assert all(block.attn.fused_attn for block in model.blocks)
    for block in model.blocks:
        block.attn.attn_drop.register_forward_hook(lambda *_: seen.append(1))
    assert len(interpret.record(model, images_for(model))) == L and not seen
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        model = of_torchvision().eval()
        with torch.no_grad():
            assert len(interpret.record(model, images_for(model))) == L
        assert torch.backends.mha.get_fastpath_enabled() == fast
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_three_libraries_with_the_same_weights_give_the_same_relevance():
    torch.manual_seed(0)
    theirs = of_torchvision().eval()
    theirs.heads.head.weight.data.normal_()
    mine = weights.from_torchvision(theirs).eval()
    timms = weights.to_timm(mine).eval()
    images = torch.randn(B, 3, 16, 16)
    results = [interpret.relevance(*interpret.record(model, images, [2, 0])) for model in (theirs, mine, timms)]
    assert torch.allclose(results[0], results[1], atol=1e-5) and torch.allclose(results[1], results[2], atol=1e-5)
    assert (results[0] - torch.eye(5)).abs().max() > 1e-4


def test_two_models_run_in_two_threads():
    """What one thread records is its own model's, and the other's attention stays fused."""
    one, other = ours().eval(), ours(depth=5).eval()
    images = images_for(one)
    expected, logits = interpret.record(one, images), other(images)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(30):
            found, seen = pool.submit(interpret.record, one, images), pool.submit(other, images)
            assert torch.equal(found.result(), expected) and torch.equal(seen.result(), logits)


def test_memory_of_the_streaming_rollout_is_that_of_one_layer():
    """Attention-shaped tensors alive whenever a block begins: the last one's at most; recording keeps all."""
    model = ours(depth=6)
    images, shape, alive = torch.randn(2, 3, 16, 24), (2, H, 7, 7), []

    def count(*_):
        alive.append(sum(type(x) is torch.Tensor and x.shape == shape for x in gc.get_objects()))

    for block in model.blocks:
        block.register_forward_pre_hook(count)
    gc.freeze()  # what other tests have left is no longer listed
    try:
        interpret.rollout(model, images)
        assert len(alive) == 6 and max(alive) <= 1
        alive.clear()
        interpret.record(model, images)
        assert max(alive) == 5
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("target", [[0, 5], [0], [0.0, 1.0], [-1, 0], [True, False], "best"])
def test_targets_that_are_no_classes_are_refused(target):
    model = ours()
    with pytest.raises(ValueError, match="expected target .* 2 class indices in 0..4, found"):
        interpret.record(model, images_for(model), target)


@pytest.mark.parametrize("function", [interpret.record, interpret.rollout, interpret.features, interpret.logit_lens])
def test_other_models_are_refused(function):
    with pytest.raises(ValueError, match="expected a VisionTransformer .*found Sequential"):
        function(torch.nn.Sequential(torch.nn.Flatten()), torch.zeros(1, 3, 8, 8))


def test_attention_out_of_sight_is_named():
    model = ours()
    for block in model.blocks[1:]:
        block.attn = torch.nn.Identity()
        block.attn.forward = lambda x, return_attention: x
    for function in (interpret.record, interpret.rollout):
        with pytest.raises(ValueError, match="expected 3 layers of attention .*found 1"):
            function(model, images_for(model))


@pytest.mark.slow
def test_cost_of_the_rollout_of_vit_b_16(capsys):
    """Five pairs of one rollout and one forward pass that keeps the attention, the order changing within the pairs."""
    model, image = VisionTransformer(ViTConfig(num_classes=10)), torch.randn(1, 3, 224, 224)
    functions = (interpret.rollout, interpret.record)
    seconds = {function: [] for function in functions}
    for i in range(6):
        for function in functions[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            function(model, image)
            seconds[function].append(time.perf_counter() - start)
    rollout, kept = (seconds[function][1:] for function in functions)
    ratio = statistics.median(a / b for a, b in zip(rollout, kept, strict=True))
    with capsys.disabled():
        print(
            f"\nrollout of ViT-B/16 on one image: {ratio:.3f} of a forward pass with attention kept, {min(kept):.2f} s"
        )
    assert min(ratio, min(rollout) / min(kept)) < 1.05
