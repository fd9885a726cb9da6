"""The throughput benchmark: its formula, its peers' sizes, and its record."""

import json

import pytest
import throughput as benchmark
import torch
from torch.utils.flop_counter import FlopCounterMode

SMALL = benchmark.Shape(image=32, patch=8, width=24, depth=2, heads=3, batch=4)


@pytest.mark.parametrize("shape", [SMALL, benchmark.Shape(48, 16, 32, 3, 2, 1)])
def test_formula_counts_what_torch_counts(shape):
    model = benchmark.course(shape).train()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features = model.forward_features(torch.randn(1, 3, shape.image, shape.image))
        model.head(features[:, 0])
    assert counter.get_total_flops() == shape.flops


def test_peers_have_as_many_parameters():
    count = [sum(p.numel() for p in build(SMALL).parameters()) for build in (benchmark.course, benchmark.timm)]
    assert count[0] == count[1] == sum(p.numel() for p in benchmark.torchvision(SMALL).parameters())


def test_one_round_gives_a_record_and_what_is_owed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(benchmark.SHAPES, "cifar-8", SMALL)
    monkeypatch.setattr(benchmark, "PEERS", {"timm": benchmark.timm})
    monkeypatch.setattr(benchmark, "matrix_product", lambda precision: lambda: None)
    arguments = ["--shapes", "cifar-8", "--rounds", "1", "--seconds", "0", "--memory", "default", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["benchmark", *arguments, "--out", str(tmp_path / "record.json")])
    threads = torch.get_num_threads()
    try:
        benchmark.main()
    finally:
        torch.set_num_threads(threads)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["hardware"].startswith("1 CPU threads") and len(record["results"]) == 2 * 4
    said = capsys.readouterr().out
    assert said.count("32 px, patch 8, 24 wide") >= 4 and ": vit_tutorial " in said and ", timm " in said


def test_a_missed_target_is_named():
    rows = [
        {"model": "vit_tutorial", "best_peer": "timm", "against_best_peer": 1.05, "precision": precision}
        | {"shape": list(SMALL), "mode": "training", "memory": "kept"}
        for precision in ("float32", "bfloat16")
    ]
    owed = list(benchmark.owed({"results": rows}))
    assert len(owed) == 1 and "bfloat16" in owed[0] and "target is 1.1" in owed[0]
