"""Datasets: fetched once, checked, shared by all configurations."""


# On the submitting machine: compute nodes are often offline. `tee`, since a download of an hour should show its progress.
localrules:
    download_cifar10,
    download_camvid,


rule download_cifar10:
    input:
        script=script("download_cifar10.py"),
        modules=modules("download_cifar10.py"),
    output:
        out="data/cifar10.npz",
        provenance=record("data/cifar10.npz"),
    log:
        "logs/download_cifar10.log",
    benchmark:
        "benchmarks/download_cifar10.tsv"
    conda:
        "../../environment.yml"
    params:
        dataset=lambda wildcards: as_json(without(config["datasets"]["cifar10"], "sources")),
        sources=untracked(json.dumps(config["datasets"]["cifar10"]["sources"])),
    message:
        "CIFAR-10 from a mirror or its official source"
    shell:
        "python {input.script:q} --dataset {params.dataset:q} --sources {params.sources:q} --out {output.out} "
        "2>&1 | tee {log}"


use rule download_cifar10 as download_camvid with:
    input:
        script=script("download_camvid.py"),
        modules=modules("download_camvid.py"),
    output:
        out="data/camvid.npz",
        provenance=record("data/camvid.npz"),
    log:
        "logs/download_camvid.log",
    benchmark:
        "benchmarks/download_camvid.tsv"
    params:
        dataset=lambda wildcards: as_json(without(config["datasets"]["camvid"], "sources")),
        sources=untracked(json.dumps(config["datasets"]["camvid"]["sources"])),
    message:
        "CamVid from a mirror or its official source"
