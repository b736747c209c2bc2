"""The steps of Conveyor, one package each, and what they share (``common``, ``data``, ``models``)."""
