"""Builds a wheel that brings libckpt: one for any Python 3.9 or later, since ctypes is all it takes.

The library is built by tools/library, for which a Swift toolchain is needed; CKPT_LIBRARY names one that is built already.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def version():
    if not (ROOT / "Sources").is_dir():
        raise SystemExit("ckpt is built from a checkout, whose Swift sources its library is made of: pip install CHECKOUT/tools/python")
    text = (ROOT / "Sources/CheckpointStore/CkptVersion.swift").read_text()
    return re.search(r'current = "([^"]+)"', text).group(1)


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            target = HERE / "ckpt" / "_lib"
        else:
            target = pathlib.Path(self.build_lib) / "ckpt" / "_lib"
        library = os.environ.get("CKPT_LIBRARY")
        if not library:
            # Progress goes to stderr; stdout is the path.
            library = subprocess.run([ROOT / "tools/library"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()[-1]
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for file in sorted(pathlib.Path(library).parent.iterdir()):
            # libckpt, and the LMDB that lies beside it.
            if file.name == pathlib.Path(library).name or file.name.startswith("liblmdb"):
                shutil.copy2(file, target / file.name)
        # What is in there is others' too; Debian keeps their terms where it keeps the libraries.
        for package in ("liblmdb0", "libzstd1", "libxxhash0"):
            terms = pathlib.Path("/usr/share/doc", package, "copyright")
            if terms.exists():
                shutil.copy2(terms, target / f"{package}.copyright")


class WithBinary(Distribution):
    def has_ext_modules(self):
        # None of Python's; but what is built is of one platform.
        return True


class AnyPython(bdist_wheel):
    def get_tag(self):
        return "py3", "none", platform(pathlib.Path(self.bdist_dir) / "ckpt" / "_lib")


def platform(directory):
    """The oldest system the library runs on, by the versions of the C library's symbols that it asks for."""
    if not sys.platform.startswith("linux"):
        return sysconfig.get_platform().replace("-", "_").replace(".", "_")
    newest = (2, 17)
    for file in directory.glob("*.so*"):
        for found in re.findall(rb"GLIBC_2\.(\d+)", file.read_bytes()):
            newest = max(newest, (2, int(found)))
    machine = sysconfig.get_platform().rpartition("-")[2]
    return f"manylinux_{newest[0]}_{newest[1]}_{machine}"


setup(version=version(), distclass=WithBinary, cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": AnyPython})
