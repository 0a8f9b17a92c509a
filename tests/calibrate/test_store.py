"""What is put comes back whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparsecomp.calibrate.low_rank import Point, Predictor, Trained
from sparsecomp.calibrate.store import Store
from sparsecomp.errors import SparsecompError


def made() -> Trained:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 8), (16, 2), (16,))
    predictor = Predictor(*(torch.randn(shape, generator=generator) for shape in shapes))
    points = (Point(0.1, 0.9, 0.8, 0.08, threshold=1.5), Point(0.25, 1.0, 0.5, 0.125, 0.0, 4, 16))
    return Trained(predictor, 0.9, 0.8, 0.1, 3, points)


def same(one: Trained | None, two: Trained) -> bool:
    return (
        one is not None
        and all(
            torch.equal(getattr(one.predictor, n), getattr(two.predictor, n))
            for n in ("down", "up", "bias")
        )
        and (one.recall, one.precision, one.density, one.epochs, one.points)
        == (two.recall, two.precision, two.density, two.epochs, two.points)
    )


def test_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "store", "key")
    assert store.get("layers.0.mlp") is None and store.get_json("costs") is None
    store.put("layers.0.mlp", made())
    store.put_json("costs", {"dense": [1.5, 2]})
    again = Store(tmp_path / "deep" / "store", "key")
    assert same(again.get("layers.0.mlp"), made())
    assert again.get_json("costs") == {"dense": [1.5, 2]}
    assert again.get("layers.1.mlp") is None


def test_another_key_sees_nothing(tmp_path: Path) -> None:
    Store(tmp_path, "key").put("layers.0.mlp", made())
    Store(tmp_path, "key").put_json("costs", 1)
    other = Store(tmp_path, "other")
    assert other.get("layers.0.mlp") is None and other.get_json("costs") is None


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "text"])
def test_damaged_files_count_as_missing(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path, "key")
    store.put("mlp", made())
    path = tmp_path / "mlp.safetensors"
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-4],
            "empty": b"",
            "changed": data[:-1] + bytes([data[-1] ^ 1]),
            "text": b"{}",
        }[damage]
    )
    assert store.get("mlp") is None
    store.put("mlp", made())
    assert same(store.get("mlp"), made())
    store.put_json("costs", 1)
    (tmp_path / "costs.json").write_text('{"key": "ke')
    assert store.get_json("costs") is None


def test_a_write_that_is_cut_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, "key")
    store.put_json("costs", 1)

    def stopped(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stopped)
    for write in (lambda: store.put_json("costs", 2), lambda: store.put("mlp", made())):
        with pytest.raises(KeyboardInterrupt):
            write()
    monkeypatch.undo()
    assert store.get_json("costs") == 1 and store.get("mlp") is None


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SparsecompError, match="file/store: cannot be written: Not a directory"):
        Store(tmp_path / "file" / "store", "key")
