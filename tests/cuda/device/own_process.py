"""Programs that start the emulated device by themselves, in a process of their own."""

import os
import subprocess
import sys
import textwrap


def in_a_process(code, **settings):
    """What the program prints; nothing may come on the error stream."""
    words = ", ".join(f"{name}={value}" for name, value in settings.items())
    start = f"from gpunn.cuda import device\ndevice.start(device.Settings({words}))\nimport cupy\nimport numpy as np\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(code)], capture_output=True, text=True, env=environment
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.split()
