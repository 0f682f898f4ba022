"""What strategies learn from trials with: regression models, and what they say of candidates.

    targets       trials as numbers to learn, constraints included
    candidates    architectures to choose from
    rounds        random trials first, then one ranking of candidates after another
    kernels       how alike two architectures are
    gaussian      Gaussian processes
    beliefs       what they expect of every objective and constraint
    improvement   expected improvement, of a loss or of a hypervolume
    networks      ensembles of small neural networks, trained together

and of `auto`:

    features      groups of features of an architecture
    views         the groups as matrices
    described     architectures as rows of all of them, with training-free scores
    additive      a Gaussian process that learns which views matter
    outlook       what is expected of every metric at every fidelity, and the gain of a trial

numpy and scipy only.
"""
