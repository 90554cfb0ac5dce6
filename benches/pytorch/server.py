"""The PyTorch side of the benchmark: answers requests, one JSON object a line on stdin and stdout.

{"do": "prepare", "id": 1, "kind": "dilated", ...} makes a task, {"do": "results", "id": 1} writes what it
computes to files, {"do": "run", "id": 1} times it once, {"do": "drop", "id": 1} forgets it. So the runs
of this process and those of the program that asks take turns.
"""

import gc
import json
import os
import sys
import traceback

# Nothing but answers may reach the program.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(**fields):
    answers.write(json.dumps(fields) + "\n")
    answers.flush()


try:
    import torch

    import attention
    import lm
except ImportError as error:
    answer(missing=str(error))
    sys.exit(0)

KINDS = {
    "dense": attention.Dense,
    "dilated": attention.Dilated,
    "decode": attention.Decode,
    "train": lm.Train,
}
tasks = {}


def hello(threads):
    torch.set_num_threads(threads)
    capability = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "capability": capability, "threads": torch.get_num_threads()}


def prepare(id, kind, **options):
    tasks[id] = KINDS[kind](**options)
    return {"note": tasks[id].note}


def results(id):
    tasks[id].results()
    return {}


def run(id):
    return tasks[id].run()


def drop(id):
    del tasks[id]
    gc.collect()
    return {}


HANDLERS = {"hello": hello, "prepare": prepare, "results": results, "run": run, "drop": drop}

for line in sys.stdin:
    request = json.loads(line)
    handler = HANDLERS[request.pop("do")]
    try:
        answer(**handler(**request))
    except Exception:
        answer(error=traceback.format_exc())
