"""Builds the fused engine's compiled part, once per instruction set; without a compiler the package does without it."""

from setuptools import Extension, setup

NATIVE = "sepconc/scattering/engines/native"
BUILDS = {"avx512": ["-march=x86-64-v4"], "avx2": ["-march=x86-64-v3"], "baseline": []}
FLAGS = ["-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-Wno-ignored-attributes"]

setup(
    ext_modules=[
        Extension(
            f"{NATIVE.replace('/', '.')}.{name}",
            sources=[f"{NATIVE}/scattering.cpp"],
            depends=[f"{NATIVE}/{header}.h" for header in ("lanes", "fft", "images", "scattering2d", "phase2d")],
            language="c++",
            extra_compile_args=[*FLAGS, *arch],
            extra_link_args=["-pthread"],
            optional=True,
        )
        for name, arch in BUILDS.items()
    ]
)
