"""What the checks make of the planted answers in tests/mistakes: one row per exercise.

    python tools/measure/checks.py            the table; below it, what was judged otherwise than planned
    python tools/measure/checks.py cut mix    only the exercises whose names contain one of these words
    python tools/measure/checks.py --seeds 50 every right answer so many times with fresh inputs; what was refused

Right answers must all be accepted. A wrong answer is *named* where it got the name that it was planted under, and
*unnamed* where it was planted without one, and refused. The exit status is 1 where anything was judged otherwise.
"""

import argparse
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from mistakes import tables

from vit_tutorial import check


def judged(name, answer):
    with redirect_stdout(StringIO()):
        return check.EXERCISES[name](answer)


def many_times(answers, seeds):
    """Try every right answer of `{exercise: answers}` with so many fresh inputs."""
    refused, started = {}, time.perf_counter()
    for name, right in answers.items():
        for n, answer in enumerate(right):
            if messages := [r.message for r in (judged(name, answer) for _ in range(seeds)) if not r.passed]:
                refused[f"{name}, {getattr(answer, '__name__', f'right answer {n}')}"] = messages
    count = sum(map(len, answers.values()))
    print(f"{count:,} right answers, {count * seeds:,} verdicts, {sum(map(len, refused.values())):,} refusals", end="")
    print(f" of {len(refused)} answers, {time.perf_counter() - started:.1f} s")
    for who, messages in refused.items():
        print(f"{who}: refused {len(messages)} times of {seeds}: {messages[0]}")
    return int(bool(refused))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only exercises whose names contain one of these")
    parser.add_argument("--seeds", type=int, metavar="N", help="right answers alone, so many times each")
    args = parser.parse_args()
    planted = {name: x for name, x in tables().items() if not args.words or any(word in name for word in args.words)}
    if args.seeds:
        return many_times({name: right for name, (right, _) in planted.items()}, args.seeds)
    numbers = {name: number for number, topic in check.TOPICS.items() for name in topic.__all__}
    totals, slips, started = [0] * 5, [], time.perf_counter()
    print(f"{'exercise':27}{'right':>5}{'accepted':>10}{'wrong':>8}{'named':>8}{'unnamed':>9}")
    for name, (right, wrong) in planted.items():
        accepted, refused = [judged(name, answer) for answer in right], [judged(name, answer) for answer, _ in wrong]
        slips += [f"{name}: refused a right answer: {r.message}" for r in accepted if not r.passed]
        named = unnamed = 0
        for (_, mistake), result in zip(wrong, refused, strict=True):
            if result.passed or result.mistake != mistake:
                slips.append(f"{name}: expected {mistake!r}, found {result.mistake!r}: {result.message}")
            elif mistake:
                named += 1
            else:
                unnamed += 1
        row = [len(right), sum(r.passed for r in accepted), len(wrong), named, unnamed]
        totals = [total + count for total, count in zip(totals, row, strict=True)]
        print(f"{numbers[name]:02} {name:24}{row[0]:5}{row[1]:10}{row[2]:8}{row[3]:8}{row[4]:9}")
    print(f"{'all':27}{totals[0]:5}{totals[1]:10}{totals[2]:8}{totals[3]:8}{totals[4]:9}")
    print(f"{time.perf_counter() - started:.1f} s", *slips, sep="\n")
    return int(bool(slips))


if __name__ == "__main__":
    sys.exit(main())
