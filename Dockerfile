# The README's own commands in a clean image, with the Python that CI runs. `docker run IMAGE` runs the main job on the CPU.
FROM python:3.11
WORKDIR /bidkv
COPY . .
RUN make env
CMD make bench
