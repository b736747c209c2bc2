"""`python -m components.ingest`: the step alone, as `conveyor step` runs it in a container."""

from components.common.main import main

if __name__ == "__main__":
    main("components.ingest")
