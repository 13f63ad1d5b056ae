"""One virtual environment per script: made on the first call, made again when its packages change."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def enter(name, packages):
    """Runs the calling script again with the interpreter of `.venv-NAME`, which has `packages` from PyPI."""
    folder = HERE / f".venv-{name}"
    python = folder / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == folder.resolve():
        return
    marker = folder / ".packages"
    if not marker.exists() or marker.read_text() != "\n".join(packages):
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        marker.write_text("\n".join(packages))
    os.execv(str(python), [str(python), *sys.argv])
