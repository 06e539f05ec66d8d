"""Endless clips that are drawn, with exact masks: sprites, discs, camouflage."""
