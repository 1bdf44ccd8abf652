import sys
from types import SimpleNamespace


class Builder:
    def build(self, model):
        return SimpleNamespace(globs=SimpleNamespace(logits=None, instructions=None), instructions=[1])


class Interpreter:
    def __init__(self, mk_dir):
        sys.path.append(str(mk_dir))
        from mk_llama import mk_llama
        self.mk_func = mk_llama


def make_schedule_builder(mode):
    assert mode == "latency"
    return Builder()


def make_mk_interpreter(mode, mk_dir):
    return Interpreter(mk_dir)
