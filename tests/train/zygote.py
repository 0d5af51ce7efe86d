"""Runs training scripts in forks of one process that has imported the heavy libraries once: seconds less for each case.

Started by the interpreter that has torch. A JSON line on stdin is a case, a JSON line on stdout its result:

    {"folder": ..., "script": "train.py", "argv": [...], "signal": 9, "when": "text in its stdout", "limit_s": 1200}
    {"rc": -9, "out": "...", "err": "...", "seconds": 3.2}
"""

import importlib
import json
import os
import runpy
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes")
LAZY = ("Trainer", "AutoModelForCausalLM", "AutoTokenizer", "AutoConfig", "Qwen3ForCausalLM", "PreTrainedTokenizerFast")


def preload():
    warnings.simplefilter("ignore")
    for name in HEAVY:
        importlib.import_module(name)
    for name in LAZY:
        getattr(sys.modules["transformers"], name)
    for name in ("SFTTrainer", "SFTConfig"):
        getattr(sys.modules["trl"], name)


def child(case, out, err):
    """The case itself; never returns."""
    for stream, number in ((out, 1), (err, 2)):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    folder = case["folder"]
    os.chdir(case.get("cwd", folder))
    os.environ.update(case.get("environment", {}))
    sys.path.insert(0, folder)
    sys.argv = [case["script"], *case["argv"]]
    sys.excepthook = ended
    try:
        runpy.run_path(str(Path(folder, case["script"])), run_name="__main__")
    except SystemExit as end:
        ended(SystemExit, end, None)
    ended(SystemExit, SystemExit(0), None)


def ended(kind, error, trace):
    """End the fork as the interpreter would end, without what the process that it was forked from has still to do."""
    code = 1
    if issubclass(kind, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    else:
        traceback.print_exception(kind, error, trace)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(case):
    begun = time.monotonic()
    base = Path(case["folder"]) / f".case-{time.monotonic_ns()}"
    out, err = f"{base}.out", f"{base}.err"
    pid = os.fork()
    if pid == 0:
        child(case, out, err)
    sent, limit = False, case.get("limit_s", 1200)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        text = Path(out).read_text(errors="replace") if case.get("when") and Path(out).exists() else ""
        if case.get("when") and not sent and case["when"] in text:
            os.kill(pid, case["signal"])
            sent = True
        if time.monotonic() - begun > limit:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(status)
    texts = [Path(p).read_text(errors="replace") for p in (out, err)]
    return {"rc": code, "out": texts[0], "err": texts[1], "seconds": round(time.monotonic() - begun, 2)}


def tell(result):
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def main():
    preload()
    tell({"ready": True})
    for line in sys.stdin:
        tell(run(json.loads(line)))


if __name__ == "__main__":
    main()
