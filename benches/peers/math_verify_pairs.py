"""Math-Verify on a table of pairs: its verdicts and its rate on one core.

    pip install math-verify && python benches/peers/math_verify_pairs.py fixtures/answers/pairs.jsonl [verdicts.jsonl]

Each side is given as it is and, where that parses to nothing, wrapped in \\boxed{}, which is the reading most in its favour.
"""
import json
import sys
import time

from math_verify import parse, verify

rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8") if line.strip()]


def read(side, wrap):
    return parse("\\boxed{" + side + "}" if wrap else side)


def verdict(row):
    """The better of the bare reading and the boxed one: right if either is."""
    response = row["kind"] == "response"
    out = []
    for wrap in (False,) if response else (False, True):
        try:
            out.append(bool(verify(read(row["gold"], wrap), read(row["pred"], wrap))))
        except Exception:  # noqa: BLE001 - an error is a verdict of False
            out.append(False)
    return out


def main():
    results = []
    start = time.perf_counter()
    calls = 0
    for row in rows:
        out = verdict(row)
        calls += len(out)
        results.append(out)
    seconds = time.perf_counter() - start
    bare = sum(out[0] == row["equal"] for row, out in zip(rows, results))
    boxed = sum(out[-1] == row["equal"] for row, out in zip(rows, results))
    best = sum(row["equal"] in out for row, out in zip(rows, results))
    print(f"{len(rows)} pairs: agrees with the table bare {bare}, boxed {boxed}, better of both {best}; {calls / seconds:.0f} pairs/s")
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", encoding="utf-8") as f:
            for row, out in zip(rows, results):
                f.write(json.dumps({**row, "math_verify_bare": out[0], "math_verify_boxed": out[-1]}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
