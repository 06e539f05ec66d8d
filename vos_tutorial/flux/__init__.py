"""Align Your Flow on FLUX.1-dev: a text-to-image model distilled into a flow map of a few steps, by LoRA adapters.

The paper's text-to-image experiment (Sabour, Fidler, Kreis, arXiv 2506.14603): the teacher is FLUX.1-dev, the student
is the same network with LoRA adapters and an input for the end time s, the loss is AYF-EMD, and 8 GPUs work for about
four hours. What the paper leaves open (rank, learning rate, batch, pictures) is our own proposal, and says so where
it stands.

    python -m vos_tutorial flux estimate                        memory, time, and what this machine lacks
    python -m vos_tutorial flux prepare PICTURES --out CACHE    pictures and captions -> latents and prompt embeddings
    torchrun --nproc_per_node 8 -m vos_tutorial flux train CACHE
    python -m vos_tutorial flux sample "a red fox in snow" --weights runs/flux-gpu-0/weights.safetensors

``--profile smoke`` rehearses all of it in a minute on a CPU, on a tiny network of the same classes with random
weights. diffusers and peft (the extra ``[flux]``) are loaded when something is built, so the library imports without
them.
"""
