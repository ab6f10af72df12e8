#!/usr/bin/env bash
# A package by AOTInductor reads its inputs in the memory layout of the example that it was compiled
# with. A clip of the same shape in another layout gives other numbers, without an error:
# `permute` of decoded frames is enough.
#
# Why it matters: decoders return (T, H, W, C), and `permute` makes (T, C, H, W) of it without moving
# a byte. The package then takes colours for columns. The network, its exported program and
# torch.compile are right for both layouts, so a test with random clips, which are contiguous,
# finds nothing.
# Seen with: torch 2.14.1 on a CPU (needs a C++ compiler).
# Source: generated code computes addresses from the example's strides
# (torch/_inductor/codegen/cpp_wrapper_cpu.py); a check of shapes and strides is made only if
# AOTI_RUNTIME_CHECK_INPUTS=1 is set.
# Remedy: `.contiguous()` on what goes into the package, or compile with an example in the layout
# that will come; AOTI_RUNTIME_CHECK_INPUTS=1 in tests.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet torch==2.14.1 numpy==2.4.6

TORCHINDUCTOR_CACHE_DIR="$folder/cache" venv/bin/python - <<'PY'
import torch


class Network(torch.nn.Module):
    """Means of the three colours of a clip (B, T, C, H, W), for each frame."""

    def forward(self, clip):
        return clip.relu().mean((-2, -1))


torch.set_num_threads(1)
network = Network().eval()
frames = torch.zeros(1, 2, 4, 4, 3)  # (B, T, H, W, C), all red
frames[..., 0] = 1
clip = frames.permute(0, 1, 4, 2, 3)  # (B, T, C, H, W)
assert not clip.is_contiguous() and torch.equal(clip, clip.contiguous())

program = torch.export.export(network, (torch.rand(1, 2, 3, 4, 4),))
package = torch._inductor.aoti_compile_and_package(program, package_path="network.pt2")
package = torch._inductor.aoti_load_package(package)
print("torch", torch.__version__)
print("expected:", network(clip)[0, 0].tolist(), "for either layout: a red clip")
seen = {
    "exported program": program.module()(clip),
    "torch.compile": torch.compile(network)(clip),
    "package, contiguous": package(clip.contiguous()),
    "package, permuted": package(clip),
}
for name, means in seen.items():
    print(f"seen: {name}: {[round(value, 2) for value in means[0, 0].tolist()]}")

wrong = seen.pop("package, permuted")
for name, means in seen.items():
    torch.testing.assert_close(means, network(clip), msg=name)
assert wrong[0, 0, 1] > 0.3, "the layout of the input is heeded now"
PY
