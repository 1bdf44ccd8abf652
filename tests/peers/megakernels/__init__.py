"""A stand-in for the megakernel of Hazy Research: the interface that benches/given.py uses, around a model of one sum."""
