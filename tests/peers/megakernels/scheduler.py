def assign_to_sms(mode, schedule=None):
    assert mode == "rr"
    return [schedule.instructions]


def tensorize_instructions(globs, instruction_queues):
    globs.instructions = instruction_queues
