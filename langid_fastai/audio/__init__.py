"""Read audio: any file, FFmpeg container or raw stream to mono float32 samples."""

# Hz that audio is brought to, unless a caller wants another rate.
DEFAULT_SR = 22_050
# Outside lies a damaged header or a slip; inside, all that is met: 4 kHz telephones to 768 kHz.
LOWEST_SR, HIGHEST_SR = 1_000, 768_000
