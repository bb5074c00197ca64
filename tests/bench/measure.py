"""Times a computation: each setting in its own process, several passes, one JSON line as the result.

A computation is a class with `settings` to choose from, `default` (the setting of users who choose none, or None) and
`run(texts, setting)`. Measured are the setting that is fastest on every eighth text, and the default if it is another.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=3, help="timed passes, after a warm-up")
    parser.add_argument("--choose", action="store_true", help="only print the settings to measure")
    parser.add_argument("--setting", type=json.loads, help="measure this setting alone")
    parser.add_argument(
        "--paced",
        action="store_true",
        help="with --setting: print {} when ready, and make one pass for each line on the standard input",
    )


def measure(arguments: argparse.Namespace, make: Callable, texts: list, tokens: int, about: dict) -> None:
    """Measures the computation of `make` over the texts, which have `tokens` tokens."""
    if arguments.setting is None:
        settings = choose(make(), texts)
        if arguments.choose:
            return print_json(settings)
        for setting in settings:  # in processes of their own, to measure the memory of each
            command = [sys.executable, *sys.argv, "--setting", json.dumps(setting)]
            subprocess.run(command, check=True)
        return None

    computation = make()
    computation.run(texts[::4], arguments.setting)
    if arguments.paced:
        print_json({})
    taken = []
    for _ in sys.stdin if arguments.paced else range(arguments.repeat):
        taken.append(seconds(computation, texts, arguments.setting))
        if arguments.paced:
            print_json({"seconds": taken[-1]})
    return print_json(
        about
        | {
            "setting": arguments.setting,
            "texts": len(texts),
            "tokens": tokens,
            "seconds": [round(s, 4) for s in taken],
            "tokens_per_second": round(tokens / median(taken)) if taken else None,
            # In KiB on Linux.
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
    )


def choose(computation, texts: list) -> list:
    few = texts[::8]

    def fastest_of_two(setting) -> float:
        return min(seconds(computation, few, setting) for _ in range(2))

    best = min(computation.settings, key=fastest_of_two)
    return [best] + [computation.default] * (computation.default not in (None, best))


def seconds(computation, texts: list, setting) -> float:
    started = time.perf_counter()
    computation.run(texts, setting)
    return time.perf_counter() - started


def print_json(line) -> None:
    print(json.dumps(line), flush=True)
