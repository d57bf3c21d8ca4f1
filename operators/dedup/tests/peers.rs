//! Beside faiss, numpy and a SemDeDup in numpy, where a Python that has them is named by `TROMMEL_PEERS`.
