"""Pipelines that start by themselves: by the clock, by what stands in the ledger, by a call from outside. `ticking`
decides what is due and puts it into a queue, `queue` hands it out, `running` is the job; `tarmac up` drives them."""
