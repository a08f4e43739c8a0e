"""Read audio: any file, FFmpeg container or raw stream to mono float32 samples."""

# Hz that audio is brought to, unless a caller wants another rate.
DEFAULT_SR = 22_050
# Outside lies a damaged header or a slip; inside, all that is met: 4 kHz telephones to 768 kHz.
LOWEST_SR, HIGHEST_SR = 1_000, 768_000

# Suffixes by which files in folders are taken for recordings. The content decides how they are
# read: most by libsndfile, the others by FFmpeg (extra `formats`).
AUDIO_SUFFIXES = frozenset(
    ".3g2 .3gp .aac .ac3 .aif .aifc .aiff .amr .asf .au .awb .bwf .caf .eac3 .flac .m4a .m4b "
    ".mka .mkv .mov .mp1 .mp2 .mp3 .mp4 .mpa .nist .oga .ogg .opus .rf64 .snd .sph .spx .voc .w64 "
    ".wav .wave .webm .wma .wv .wve".split()
)
