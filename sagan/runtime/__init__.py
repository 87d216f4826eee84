"""Devices, processes, random draws, files that are written whole, memory, pictures."""
