"""CUDA C on the CPU: what CuPy would compile is compiled as C++, and its blocks run one after another.

From one barrier to the next the threads of a block run in turn, and `backwards` says in which order: an answer that
depends on it shows a race. Shared memory is NaN when a block begins.
"""

import ctypes
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

GRID = """
#include <cmath>
#include <cstring>
#include <ucontext.h>
#define __global__
#define __device__
#ifdef __SANITIZE_ADDRESS__  // it leaves sections of one's own alone
#define __shared__ static
#else
#define __shared__ static __attribute__((section("of_a_block")))
#endif
#define __launch_bounds__(threads)
using std::hypot;
static struct { int x; } blockIdx, threadIdx;

static ucontext_t between, threads[BLOCK];
static char stacks[BLOCK][1 << 16];
static bool ended[BLOCK];
static const void* kernel;
extern "C" {
int backwards = 0;
extern char __start_of_a_block[] __attribute__((weak, visibility("hidden")));
extern char __stop_of_a_block[] __attribute__((weak, visibility("hidden")));
}

template <class Body>
static void thread()
{
    (*static_cast<const Body*>(kernel))();
    ended[threadIdx.x] = true;
}

static void __syncthreads() { swapcontext(&threads[threadIdx.x], &between); }

// 0, or 1 where some threads of a block wait at a barrier and others have ended.
template <class Body>
static int run(int blocks, Body body)
{
    kernel = &body;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        memset(__start_of_a_block, 255, __stop_of_a_block - __start_of_a_block);  // NaN
        for (int t = 0; t < BLOCK; ++t) {
            getcontext(&threads[t]);
            threads[t].uc_stack.ss_sp = stacks[t];
            threads[t].uc_stack.ss_size = sizeof stacks[t];
            threads[t].uc_link = &between;
            makecontext(&threads[t], thread<Body>, 0);
            ended[t] = false;
        }
        for (int left = BLOCK; left;) {
            for (int t = 0; t < BLOCK; ++t) {
                threadIdx.x = backwards ? BLOCK - 1 - t : t;
                swapcontext(&between, &threads[threadIdx.x]);
                left -= ended[threadIdx.x];
            }
            if (left != 0 && left != BLOCK) return 1;
        }
    }
    return 0;
}
"""
ENTRY = """
extern "C" int run_{name}(int blocks, {parameters})
{{
    return run(blocks, [=] {{ {name}({arguments}); }});
}}
"""
KERNEL = re.compile(r"__global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(([^)]*)\)")
C_TYPES = {
    np.uint64: ctypes.c_void_p,
    np.uint32: ctypes.c_uint,
    np.int32: ctypes.c_int,
    np.int64: ctypes.c_longlong,
}


class Compiler:
    """Stands in for ``cupy.RawModule``; a macro says how many threads a block has."""

    def __init__(self, folder, flags=()):
        self.folder, self.flags = folder, flags
        self.libraries = {}
        self.backwards = False

    def __call__(self, code, options):
        key = hashlib.sha256("\n".join([code, *options]).encode()).hexdigest()
        if key not in self.libraries:
            self.libraries[key] = self._compiled(code, options, self.folder / key)
        return Module(self.libraries[key], self)

    def _compiled(self, code, options, path):
        entries = []
        for name, parameters in KERNEL.findall(code):
            arguments = ", ".join(re.findall(r"(\w+)(?=,|$)", parameters.strip()))
            entries.append(ENTRY.format(name=name, parameters=parameters, arguments=arguments))
        sizes = dict(option[2:].split("=") for option in options if option.startswith("-D"))
        block = f"-DBLOCK={sizes.get('THREADS', sizes.get('TILE'))}"
        if not path.exists():  # other processes compile the same
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                source, library = Path(folder) / "kernels.cpp", Path(folder) / "kernels.so"
                source.write_text(GRID + code + "".join(entries))
                command = ["g++", *options, block, "-O0", "-shared", "-fPIC", "-w", *self.flags, source, "-o", library]
                subprocess.run(command, check=True)
                library.rename(path)
        return ctypes.CDLL(str(path)), int(block.split("=")[1])


class Module:
    """A compiled module, as CuPy's."""

    def __init__(self, library, compiler):
        self.library, self.threads = library
        self.compiler = compiler

    def get_function(self, name):
        def launch(grid, block, arguments):
            assert block == (self.threads,)
            ctypes.c_int.in_dll(self.library, "backwards").value = self.compiler.backwards
            converted = [C_TYPES[type(argument)](int(argument)) for argument in arguments]
            assert getattr(self.library, f"run_{name}")(ctypes.c_int(*grid), *converted) == 0, "threads parted"

        return launch


def load_nvrtc():
    """NVIDIA's run-time compiler, which comes with torch's CUDA builds and needs no GPU."""
    for folder in map(Path, sys.path):
        for path in sorted(folder.glob("nvidia/*/lib/libnvrtc.so.*")):
            if "builtins" not in path.name and "alt" not in path.name:
                return ctypes.CDLL(str(path))
    pytest.skip("no libnvrtc; it comes with torch's CUDA builds")


def compiled_for_a_gpu(source, options, architecture):
    """The assembly that NVIDIA's compiler makes of a source; fails with what it says."""
    nvrtc = load_nvrtc()
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    flags = [option.encode() for option in (*options, f"--gpu-architecture={architecture}")]
    failed = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    assert not failed, text_of(nvrtc, program, "ProgramLog")
    return text_of(nvrtc, program, "PTX")


def text_of(nvrtc, program, what):
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, text)
    return text.value.decode()
