"""Untrained networks: impact maps over many draws of weights and inputs."""


rule measure_network:
    input:
        script=script("measure_network.py"),
        modules=modules("measure_network.py"),
    output:
        results("networks/{network}.npz"),
    log:
        logs("measure_network/{network}.log"),
    benchmark:
        benchmarks("measure_network/{network}.tsv")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        settings=lambda wildcards: as_json(network_settings(wildcards.network)),
    message:
        "Impact map of {wildcards.network}"
    shell:
        "python {input.script} --name {wildcards.network} --settings {params.settings:q} --threads {threads} "
        "--out {output} > {log} 2>&1"
