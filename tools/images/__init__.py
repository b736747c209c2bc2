"""What building the container images takes beyond their Dockerfile: each module is run as a program."""
