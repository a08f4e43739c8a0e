"""Read any audio file, FFmpeg container or raw stream as mono float32 samples."""

# Default sampling rate that audio is resampled to, Hz.
DEFAULT_SR = 22_050
# Limits of sampling rates, Hz: real recordings have 4 to 768 kHz; other values are errors.
LOWEST_SR, HIGHEST_SR = 1_000, 768_000

# Suffixes of the files in a folder that are treated as recordings. How they are read depends on the
# content: most by libsndfile, the others by FFmpeg (extra `formats`).
AUDIO_SUFFIXES = frozenset(
    ".3g2 .3gp .aac .ac3 .aif .aifc .aiff .amr .asf .au .awb .bwf .caf .eac3 .flac .m4a .m4b "
    ".mka .mkv .mov .mp1 .mp2 .mp3 .mp4 .mpa .nist .oga .ogg .opus .rf64 .snd .sph .spx .voc .w64 "
    ".wav .wave .webm .wma .wv .wve".split()
)
