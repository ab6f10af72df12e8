#!/usr/bin/env bash
# ONNX Runtime's threads go on computing nothing, at full load, for tens of milliseconds after a run
# has returned: an idle session slows the other one, or PyTorch, that runs next.
#
# Why it matters: models that are timed by turns in one process slow each other. On two cores a
# network of 127 ms took 156, and seemed 1.2 times as fast as an older file of it, not 1.45 times.
# Alternation is how one compares fairly, so one trusts what it shows.
# Seen with: onnxruntime 1.32.0, on Linux.
# Source: the threads of the pool spin for another task before they sleep
# (include/onnxruntime/core/platform/EigenNonBlockingThreadPool.h).
# Remedy: the session option "session.force_spinning_stop", which ends the spinning with the run and
# leaves it within; "session.intra_op.allow_spinning" = "0" ends it, too, but slows each operator.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6

venv/bin/python - <<'PY'
import statistics
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

maps = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [512, 512]) for name in "xy"]
graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "g", maps[:1], maps[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
x = np.ones((512, 512), np.float32)


def work_after_a_run(*entry):
    """Milliseconds of processor time in 200 ms in which the process only sleeps."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    if entry:
        options.add_session_config_entry(*entry)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, ["CPUExecutionProvider"]
    )
    found = []
    for _ in range(5):
        session.run(None, {"x": x})
        before = time.process_time()
        time.sleep(0.2)
        found.append(1e3 * (time.process_time() - before))
    return statistics.median(found)


print("onnxruntime", onnxruntime.__version__)
print("expected: a session that is not running does no work")
seen = {
    "as it comes": work_after_a_run(),
    "force_spinning_stop": work_after_a_run("session.force_spinning_stop", "1"),
    "no spinning": work_after_a_run("session.intra_op.allow_spinning", "0"),
}
for name, work in seen.items():
    print(f"seen: {name}: {work:.1f} ms of processor time after a run has returned")
free, *stopped = seen.values()
assert free > 5 and max(stopped) < 2, "threads no longer spin after a run"
PY
