class MK_Generator:
    def __init__(self, model, interpreter, schedule):
        self.model, self.interpreter, self.schedule = model, interpreter, schedule

    def run(self, input_ids, pos_id):
        assert self.schedule.globs.instructions
        hidden = self.model.hidden(input_ids, pos_id)
        self.schedule.globs.logits = self.interpreter.mk_func(hidden, self.model.lm_head.lm_head.weight)
        return self.schedule.globs.logits.argmax(-1)
