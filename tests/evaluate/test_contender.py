"""Programs that benchmarks race: what is asked of them, in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ENGINE = """
import sys, time
from contender import serve

class Sums:
    def prefill(self, tokens):
        self.sum = sum(tokens)
        print("a library's chatter")
        return self.sum

    def decode(self, token):
        if token < 0:
            sys.exit(1)
        time.sleep(token / 1000)

serve(Sums())
"""


def test_a_contender_answers_from_its_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))
    from contender import Contender

    script = tmp_path / "engine.py"
    script.write_text(ENGINE)
    with Contender("sums", [sys.executable, str(script)], 0) as contender:
        found = contender.prefill([1, 2, 3])
        assert found.next_token == 6 and 0 < found.seconds < 1
        assert 0.03 <= contender.decode([10, 20]) < 1
        assert contender.prefill([4]).next_token == 4
        with pytest.raises(SystemExit, match=r"error: sums stopped: .*engine\.py"):
            contender.decode([-1])
    assert "a library's chatter" in capfd.readouterr().err


def test_ratios_are_of_ours_over_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from dense import OURS, Report, Samples, _table

    contenders = [
        Samples(name, 1e8, [speed] * 3, [speed, 2 * speed, speed], {7})
        for name, speed in ((f"{OURS} int8", 200.0), (f"{OURS} a.spz", 300.0), ("other", 100.0))
    ]
    lines = _table(Report("cpu", 2, 64, [30.0] * 3, contenders)).splitlines()
    ratios = [line.split("x (")[0] for line in lines if "x (95 %" in line]
    decode = [
        f"  {OURS} int8 over other: 2.000",
        f"  {OURS} a.spz over {OURS} int8: 1.500",
        f"  {OURS} a.spz over other: 3.000",
    ]
    assert ratios == [*decode, *decode]  # of decode, then of prefill
    assert "share  67%" in lines[4] and "limit  300.0" in lines[4]
    assert lines[-1].endswith("yes")
