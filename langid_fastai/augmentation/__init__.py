"""Augmented variants of recordings: noise, pitch, speed, rooms, codecs and more."""
