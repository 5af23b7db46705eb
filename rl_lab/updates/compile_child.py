"""Compiles an exported graph; a script that runs in a process of its own and imports nothing but torch.

    python compile_child.py GRAPH PACKAGE OPTIONS THREADS

Its standard input stays open for as long as the process that wants the code lives. When it is closed, this process and
the compilers that it has started end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import warnings


def end_with_parent() -> None:
    """End this process's group as soon as its standard input is closed."""
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def compile_graph(graph: str, package: str, options: str, threads: str) -> None:
    """Write the package of a graph that torch.export.save wrote.

    Args:
        options: inductor's, as JSON.
        threads: of the code; it is fixed when it is compiled.
    """
    import torch
    from torch._inductor import aoti_compile_and_package

    torch.set_num_threads(int(threads))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns about its own internals
        exported = torch.export.load(graph)
        aoti_compile_and_package(exported, package_path=package, inductor_configs=json.loads(options))


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    compile_graph(*sys.argv[1:])
