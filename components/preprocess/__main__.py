"""`python -m components.preprocess`: the step as a container runs it."""

from components.common.main import main

if __name__ == "__main__":
    main("components.preprocess")
