"""The C extension ``lockcore._core``; everything else about the package is in pyproject.toml.

``LOCKCORE_DEBUG=1`` builds without optimisation, with invariant checks and sync points.
``LOCKCORE_SANITIZE=address`` or ``thread`` builds for that sanitizer.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("src", "lockcore")
SANITIZERS = {"": [], "address": ["address", "undefined"], "thread": ["thread"]}

DIRECTIVES = {
    "language_level": 3,
    "always_allow_keywords": False,  # methods without arguments take the short call
    "binding": False,
    "autotestdict": False,  # no empty __test__ in the module
    "boundscheck": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",  # gives __text_signature__, which inspect and stubtest read
    "freethreading_compatible": True,
    "initializedcheck": False,
    "wraparound": False,
}


def compiler_flags(compiler_type: str) -> tuple[list[str], list[str]]:
    """Returns what to add for the compiler and for the linker.

    Raises:
        SystemExit: ``LOCKCORE_SANITIZE`` names no sanitizer, or one that the compiler lacks.
    """
    is_debug = os.environ.get("LOCKCORE_DEBUG", "") not in {"", "0"}
    sanitizer = os.environ.get("LOCKCORE_SANITIZE", "")
    if sanitizer not in SANITIZERS:
        raise SystemExit(f"LOCKCORE_SANITIZE must be 'address' or 'thread', not {sanitizer!r}")
    if compiler_type == "msvc":
        if sanitizer:
            raise SystemExit("LOCKCORE_SANITIZE needs gcc or clang")
        optimised = ["/Od", "/Zi", "/DLC_DEBUG=1"] if is_debug else ["/O2"]
        return ["/std:c11", "/experimental:c11atomics", *optimised], ["/DEBUG"] if is_debug else []
    # -g0: no debug sections, so neither their size nor the build directory's path is shipped.
    optimised = ["-O0", "-g", "-UNDEBUG", "-DLC_DEBUG=1"] if is_debug else ["-O3", "-g0"]
    checked = [f"-fsanitize={name}" for name in SANITIZERS[sanitizer]]
    traced = ["-g", "-fno-omit-frame-pointer"] if checked else []
    return ["-std=gnu11", "-fvisibility=hidden", *optimised, *traced, *checked], checked


def posix_names(pattern: str) -> list[str]:
    """Returns the matching sources, in an order that is the same everywhere."""
    return sorted(path.as_posix() for path in SOURCES.glob(pattern))


class BuildExt(build_ext):
    """Runs Cython when the extension is built, not whenever metadata is asked for.

    So the sources that go into an sdist are the ones people write, and never generated C.
    """

    def build_extensions(self) -> None:
        """Translates, then compiles with the flags of the compiler at hand."""
        compile_args, link_args = compiler_flags(self.compiler.compiler_type)
        for extension in self.extensions:
            [generated] = cythonize(
                [extension],
                include_path=["python", "src/lockcore"],
                build_dir="build/cython",
                compiler_directives=DIRECTIVES,
                force=True,  # an edited .pxd alone would rebuild nothing
            )
            extension.sources = generated.sources
            extension.extra_compile_args = compile_args
            extension.extra_link_args = link_args
        super().build_extensions()


setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=[
        Extension(
            "lockcore._core",
            # No name of a file of the C core begins with an underscore.
            sources=["src/lockcore/_core.pyx", *posix_names("[!_]*.c")],
            depends=posix_names("*.h"),
            include_dirs=["src/lockcore"],
            define_macros=[("CYTHON_USE_TYPE_SPECS", "1")],  # __module__ can be "lockcore"
        )
    ],
)
